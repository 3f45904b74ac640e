"""A report read back from JSON, to be rendered again: the opposite of `json_v1`.

The file is anybody's: every member has the type and the range that it should have, or the whole is refused,
and every text is made harmless. What a report derives (verdict, fingerprints, exit code) is derived again.
"""

import json
import re
from typing import Final, NoReturn

from loraudit.errors import LorauditError
from loraudit.findings.conditions import CalibrationUsed, EncoderUsed, Evaluations, Settings
from loraudit.findings.exhibits import Distribution, ModuleNorm
from loraudit.findings.finding import Allowed, Confidence, Finding, Score, Severity
from loraudit.findings.report import Gap, Modules, Report, Target
from loraudit.report.members import HINT, Members, refuse

__all__ = ["MOST_BYTES", "load_reports"]

MOST_BYTES: Final = 100_000_000
"""Of the JSON; a report of 2,000 files has about 20 million."""
_ID: Final = re.compile(r"LA-[A-Z]{1,30}-[0-9]{3}")
_DEPTHS: Final = ("metadata", "weights", "attack")


def load_reports(data: bytes) -> list[Report]:
    """The reports in a JSON document of schema `loraudit.report/1` or `loraudit.reports/1`.

    Raises `LorauditError` if it is anything else.
    """
    try:
        document = Members(json.loads(data, parse_constant=_refuse_constant), "")
    except (ValueError, RecursionError, MemoryError):
        raise LorauditError("the report is no JSON", HINT) from None
    schema = document.optional("schema")
    if schema == "loraudit.reports/1":
        return [_report(one) for one in document.objects("reports")]
    if schema == "loraudit.report/1":
        return [_report(document)]
    raise LorauditError("the report is not of the schema loraudit.report/1 or loraudit.reports/1", HINT)


def _report(read: Members) -> Report:
    return Report(
        version=read.text("version"),
        target=_target(read.object("target")),
        findings=tuple(_finding(one) for one in read.objects("findings")),
        scores=tuple(_score(one) for one in read.objects("scores")),
        settings=_settings(read.object("settings")),
        incomplete=tuple(Gap(one.text("what"), one.text("why")) for one in read.objects("incomplete")),
        update=tuple(
            ModuleNorm(one.text("site"), one.number("frobenius", 0)) for one in read.objects("update")
        ),
        distributions=tuple(
            Distribution(
                one.text("name"), one.number("here", 0, 1), one.shares("harmless"), one.shares("leaking")
            )
            for one in read.objects("distributions")
        ),
        failed=bool(read.bool_or_none("failed")),
    )


def _target(read: Members) -> Target:
    rank = read.counts("rank") if read.optional("rank") is not None else ()
    if rank and len(rank) != 2:
        refuse("target.rank", "two numbers")
    modules = read.object_or_none("modules")
    return Target(
        name=read.text("name"),
        sha256=read.hash_or_none("sha256"),
        size_bytes=read.count_or_none("size_bytes"),
        family=read.text_or_none("family"),
        base=read.text_or_none("base"),
        dialect=read.text_or_none("dialect"),
        rank=(rank[0], rank[1]) if rank else None,
        modules=None if modules is None else Modules(modules.count("read"), modules.count("unread")),
        origin=read.text_or_none("origin"),
        path=read.text_or_none("path"),
    )


def _finding(read: Members) -> Finding:
    allowed = read.object_or_none("allowed")
    return Finding(
        id=read.spelt("id", _ID, "the id of a rule"),
        severity=read.one_of("severity", Severity),
        confidence=read.one_of("confidence", Confidence),
        title=read.text("title"),
        detail=read.text("detail"),
        remedy=read.text("remedy"),
        summary=read.text("summary"),
        numbers=read.numbers("numbers"),
        quotes=read.texts("quotes"),
        places=read.texts("places"),
        known=read.bool_or_none("known"),
        allowed=None if allowed is None else Allowed(allowed.text("reason"), allowed.text_or_none("until")),
    )


def _score(read: Members) -> Score:
    return Score(
        name=read.text("name"),
        attack=read.text("attack"),
        against=read.text("against"),
        value=read.number_or_none("value"),
        n=read.count("n"),
        low=read.number_or_none("low"),
        high=read.number_or_none("high"),
        null_p95=read.number_or_none("null_p95"),
        p_value=read.number_or_none("p_value"),
    )


def _settings(read: Members) -> Settings:
    encoder = read.object_or_none("encoder")
    evaluations = read.object_or_none("evaluations")
    used = read.object_or_none("calibration")
    depth = read.text("depth")
    if depth not in _DEPTHS:
        refuse("settings.depth", f"one of {', '.join(_DEPTHS)}")
    return Settings(
        base=read.text_or_none("base"),
        encoder=None if encoder is None else EncoderUsed(encoder.text("name"), encoder.text("sha256")),
        attacks=read.texts("attacks"),
        skipped=read.texts("skipped"),
        seeds=read.counts("seeds"),
        budget=read.text_or_none("budget"),
        evaluations=None
        if evaluations is None
        else Evaluations(evaluations.count("spent"), evaluations.count("most")),
        calibration=None
        if used is None
        else CalibrationUsed(used.text("name"), used.count("controls"), used.text_or_none("unused")),
        device=read.text_or_none("device"),
        depth=depth,
    )


def _refuse_constant(_name: str) -> NoReturn:
    raise ValueError

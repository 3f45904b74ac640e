"""The report as JSON: schemas `loraudit.report/1` and `loraudit.reports/1`.

Explicit, never a dump of the dataclasses: what is written here is a contract. Keys are sorted, characters
outside ASCII are escaped, numbers have six significant digits, and a number that is not finite is null.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

from loraudit.findings.conditions import CalibrationUsed, EncoderUsed, Evaluations, Settings
from loraudit.findings.exhibits import Distribution
from loraudit.findings.finding import Allowed, Finding, Score
from loraudit.findings.fingerprints import fingerprint
from loraudit.findings.report import Modules, Report, Target
from loraudit.text import plain

__all__ = ["render", "schema"]


def render(reports: Sequence[Report], *, reveal: bool = False) -> str:
    """One report as `loraudit.report/1`, any other number as `loraudit.reports/1`."""
    documents = [_report(report, reveal) for report in reports]
    document = documents[0] if len(documents) == 1 else {"schema": "loraudit.reports/1", "reports": documents}
    return json.dumps(document, sort_keys=True, indent=2, allow_nan=False) + "\n"


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of both."""
    from importlib.resources import files

    text = files("loraudit.report").joinpath("report_v1.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def _report(report: Report, reveal: bool) -> dict[str, Any]:
    verdict = report.verdict
    return {
        "schema": "loraudit.report/1",
        "version": plain(report.version),
        "target": _target(report.target),
        "verdict": {"level": verdict.level.value, "reasons": [plain(reason) for reason in verdict.reasons]},
        "findings": [_finding(report.target, finding, reveal) for finding in report.findings],
        "scores": [_score(score) for score in report.scores],
        "settings": _settings(report.settings),
        "failed": report.failed,
        "incomplete": [{"what": plain(gap.what), "why": plain(gap.why)} for gap in report.incomplete],
        "update": [
            {"site": plain(module.site), "frobenius": _number(module.frobenius)} for module in report.update
        ],
        "distributions": [_distribution(distribution) for distribution in report.distributions],
    }


def _target(target: Target) -> dict[str, Any]:
    return {
        "name": plain(target.name),
        "path": _text(target.path),
        "origin": _text(target.origin),
        "sha256": _text(target.sha256),
        "size_bytes": target.size_bytes,
        "family": _text(target.family),
        "base": _text(target.base),
        "dialect": _text(target.dialect),
        "rank": None if target.rank is None else list(target.rank),
        "modules": None if target.modules is None else _modules(target.modules),
    }


def _modules(modules: Modules) -> dict[str, int]:
    return {"read": modules.read, "unread": modules.unread, "total": modules.total}


def _finding(target: Target, finding: Finding, reveal: bool) -> dict[str, Any]:
    return {
        "id": plain(finding.id),
        "severity": finding.severity.value,
        "confidence": finding.confidence.value,
        "title": plain(finding.title),
        "summary": plain(finding.summary),
        # Private words stay apart from the rest, so that they can still be hidden when this is read back.
        "detail": plain(finding.detail if reveal else finding.told(reveal=False)),
        "quotes": [plain(quote) for quote in finding.quotes] if reveal else [],
        "numbers": {plain(key): _number(value) for key, value in finding.numbers.items()},
        "remedy": plain(finding.remedy),
        "places": [plain(place) for place in finding.places],
        "fingerprint": fingerprint(target, finding),
        "known": finding.known,
        "allowed": None if finding.allowed is None else _allowed(finding.allowed),
    }


def _allowed(allowed: Allowed) -> dict[str, str | None]:
    return {"reason": plain(allowed.reason), "until": _text(allowed.until)}


def _score(score: Score) -> dict[str, Any]:
    return {
        "name": plain(score.name),
        "attack": plain(score.attack),
        "against": plain(score.against),
        "value": _number(score.value),
        "n": score.n,
        "low": _number(score.low),
        "high": _number(score.high),
        "null_p95": _number(score.null_p95),
        "p_value": _number(score.p_value),
    }


def _settings(settings: Settings) -> dict[str, Any]:
    return {
        "depth": plain(settings.depth),
        "base": _text(settings.base),
        "encoder": None if settings.encoder is None else _encoder(settings.encoder),
        "attacks": [plain(attack) for attack in settings.attacks],
        "skipped": [plain(attack) for attack in settings.skipped],
        "seeds": list(settings.seeds),
        "budget": _text(settings.budget),
        "evaluations": None if settings.evaluations is None else _evaluations(settings.evaluations),
        "calibration": None if settings.calibration is None else _calibration(settings.calibration),
        "device": _text(settings.device),
    }


def _encoder(encoder: EncoderUsed) -> dict[str, str]:
    return {"name": plain(encoder.name), "sha256": plain(encoder.sha256)}


def _evaluations(evaluations: Evaluations) -> dict[str, int]:
    return {"spent": evaluations.spent, "most": evaluations.most}


def _calibration(used: CalibrationUsed) -> dict[str, Any]:
    return {"name": plain(used.name), "controls": used.controls, "unused": _text(used.unused)}


def _distribution(distribution: Distribution) -> dict[str, Any]:
    return {
        "name": plain(distribution.name),
        "here": _number(distribution.here),
        "harmless": [_number(value) for value in distribution.harmless],
        "leaking": [_number(value) for value in distribution.leaking],
    }


def _text(text: str | None) -> str | None:
    return None if text is None else plain(text)


def _number(value: float | int | str | None) -> float | int | str | None:
    if isinstance(value, str):
        return plain(value)
    if not isinstance(value, float):
        return value
    # `+ 0.0` turns -0.0 into 0.0.
    return float(f"{value:.6g}") + 0.0 if math.isfinite(value) else None

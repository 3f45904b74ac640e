"""Report document, schemas `loraudit.report/1` and `loraudit.reports/1`, defined once.

By this definition `json_v1` writes, `load` and the baseline of the gate read, and the JSON Schema is made. A
member has the name of the record's field. The schema tells what a scan writes. Reading also accepts members
of other names, and earlier reports without the members that are `late`.
"""

import math
from typing import Any, Final

from loraudit.findings.exhibits import Distribution, ModuleNorm, Returned
from loraudit.findings.finding import Allowed, Confidence, Finding, Score, Severity, Step
from loraudit.findings.report import Gap, Made, Modules, Report, Target, Verdict, Withheld
from loraudit.report.conditions import SHA256, SettingsV1
from loraudit.report.kinds import Choice, Count, Flag, Number, Scalar, Text
from loraudit.report.shapes import Many, Member, Named, Object, definitions

__all__ = ["MOST_BYTES", "ONE", "SEVERAL", "FindingV1", "ReportV1", "ReportsV1", "TargetV1", "schema"]

ONE: Final = "loraudit.report/1"
"""Schema of the report of one target."""
SEVERAL: Final = "loraudit.reports/1"
"""Schema of the reports of several targets."""
MOST_BYTES: Final = 100_000_000
"""Size of a document at most, in bytes; a report of 2,000 files has about 20 million."""

_TEXT, _TEXT_OR_NULL, _TEXTS = Text(), Text(null=True), Many(Text())
_SEVERITY: Final = Choice(Severity, name="severity")
_RULE: Final = Text(pattern="^LA-[A-Z]+-[0-9]{3}$", most=37, due="the id of a rule")
_SHARE: Final = Number(0, 1, told=False, lacking=math.nan)

_MODULES: Final = Object(
    Modules,
    {
        "read": Member(Count()),
        "unread": Member(Count()),
        "total": Member(Count(), source="derived"),
    },
    null=True,
)

TargetV1: Final = Object(
    Target,
    {
        "name": Member(_TEXT),
        "path": Member(
            _TEXT_OR_NULL,
            "Below the folder that the scan was started in, null of a file elsewhere.",
            late=True,
        ),
        "origin": Member(
            _TEXT_OR_NULL, "hf://namespace/name@commit/path of a file on the Hub, null of a local one."
        ),
        "sha256": Member(SHA256),
        "size_bytes": Member(Count(null=True)),
        "family": Member(_TEXT_OR_NULL),
        "base": Member(_TEXT_OR_NULL, "Recognised base model."),
        "dialect": Member(_TEXT_OR_NULL),
        "rank": Member(Many(Count(), null=True, exactly=2, due="two numbers"), "Smallest and largest."),
        "modules": Member(_MODULES),
    },
    "What could not be read, or was not asked for, is null.",
    name="target",
)
"""The audited file."""

_VERDICT: Final = Object(
    Verdict,
    {
        "level": Member(_SEVERITY),
        "reasons": Member(Many(_TEXT, least=1)),
        "why": Member(_TEXT, "What would have made the level one higher, and one lower.", late=True),
    },
)

_ALLOWED: Final = Object(
    Allowed,
    {
        "reason": Member(_TEXT),
        "until": Member(Text(null=True, form="date")),
    },
    null=True,
)

_STEP: Final = Object(
    Step,
    {
        "level": Member(_SEVERITY, "Of the finding, if the condition were met or, one level down, not met."),
        "number": Member(_TEXT),
        "here": Member(Number(lacking=math.nan), "Of this scan."),
        "relation": Member(Choice((">=", ">", "<=")), "To the threshold, for the higher level."),
        "threshold": Member(Number(lacking=math.nan)),
    },
    name="step",
)

FindingV1: Final = Object(
    Finding,
    {
        "id": Member(_RULE),
        "severity": Member(_SEVERITY),
        "confidence": Member(Choice(Confidence)),
        "title": Member(_TEXT),
        "summary": Member(_TEXT, "The sentence of the verdict; empty: the title.", late=True),
        "detail": Member(_TEXT),
        "quotes": Member(_TEXTS, "Private words of the file, with --reveal alone.", late=True),
        "numbers": Member(Named(Scalar()), "What the finding rests on."),
        "remedy": Member(_TEXT),
        "places": Member(_TEXTS, "Where it was seen; empty for what comes from the weights.", late=True),
        "fingerprint": Member(
            Text(pattern="^[0-9a-f]{32}$", due="a fingerprint"),
            "Equal for the same finding about the same file, whatever the scores.",
            late=True,
            source="added",
        ),
        "standards": Member(
            _TEXTS,
            "Ids of the rule in NIST AI 100-2, MITRE ATLAS, OWASP ML and CWE.",
            late=True,
            source="checked",
        ),
        "known": Member(
            Flag(null=True),
            "Whether it is in the baseline and so does not count; null: there is no baseline.",
            late=True,
        ),
        "allowed": Member(
            _ALLOWED,
            "Why it may be there and so does not count, and the last day of that; null: it may not.",
            late=True,
        ),
        "higher": Member(
            Many(_STEP), "Conditions that failed: with all of them it would be one level higher.", late=True
        ),
        "lower": Member(
            Many(_STEP), "Conditions that held: without any of them it would be one level lower.", late=True
        ),
    },
    name="finding",
)
"""An answer to one question about the file."""

_SCORE: Final = Object(
    Score,
    {
        "name": Member(_TEXT, "Ends in .base or .scrambled for a control."),
        "attack": Member(_TEXT),
        "against": Member(_TEXT, "Similarity to what."),
        "value": Member(Number()),
        "n": Member(Count()),
        "low": Member(Number(), "Lower end of the 95 % interval."),
        "high": Member(Number(), "Upper end of the 95 % interval."),
        "null_p95": Member(Number(), "95 % quantile of the null."),
        "p_value": Member(Number(0, 1)),
    },
    name="score",
)

_GAP: Final = Object(Gap, {"what": Member(_TEXT), "why": Member(_TEXT)})

_MODULE: Final = Object(
    ModuleNorm,
    {
        "site": Member(_TEXT),
        "frobenius": Member(Number(0, lacking=math.nan)),
    },
)

_DISTRIBUTION: Final = Object(
    Distribution,
    {
        "name": Member(
            _TEXT,
            "agreement: share of pairs of pictures that match; likeness: mean cosine of the pictures to the "
            "person in the photos.",
        ),
        "here": Member(_SHARE, "Of this file."),
        "harmless": Member(Many(_SHARE), "Of LoRAs that hold no single person; likeness: of somebody else."),
        "leaking": Member(Many(_SHARE), "Of LoRAs of one person each; empty if not measured."),
    },
    name="distribution",
)

_RETURNED: Final = Object(
    Returned,
    {
        "attack": Member(_TEXT),
        "pictures": Member(Count(), "That show the person, judged by the pairs that match."),
        "n": Member(Count(), "Pictures that were made."),
        "low": Member(_SHARE, "Lower end of the 95 % interval of the share of pictures."),
        "high": Member(_SHARE, "Upper end."),
        "cosine": Member(Number(-1, 1), "Of the mean face to the person in the photos; null without photos."),
        "accepted": Member(Count(null=True), "Pictures that pass as the person in the photos."),
    },
    name="returned",
)

_WITHHELD: Final = Object(
    Withheld,
    {
        "id": Member(_RULE),
        "severity": Member(_SEVERITY),
        "counts": Member(Flag(), "Whether it bears on the exit code."),
    },
)

_MADE: Final = Object(
    Made,
    {
        "date": Member(
            Text(
                pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$",
                due="a time such as 2026-11-30T10:00:00Z",
                form="date-time",
            ),
            "Start of the scan in UTC; the value of SOURCE_DATE_EPOCH where that is set.",
        ),
        "seconds": Member(Number(0), "Duration of the scan; null where SOURCE_DATE_EPOCH is set."),
    },
)

ReportV1: Final = Object(
    Report,
    {
        "schema": Member(Choice((ONE,)), source="added"),
        "version": Member(_TEXT, "Of loraudit."),
        "target": Member(TargetV1),
        "verdict": Member(_VERDICT, source="derived"),
        "findings": Member(Many(FindingV1), "Worst first."),
        "scores": Member(Many(_SCORE)),
        "settings": Member(SettingsV1),
        "failed": Member(
            Flag(), "Whether an error kept it from being read at all: no such file, no network.", late=True
        ),
        "incomplete": Member(Many(_GAP), "What could not be looked at."),
        "update": Member(
            Many(_MODULE),
            "How much the file changes each module: Frobenius norm of the effective update.",
            late=True,
        ),
        "distributions": Member(
            Many(_DISTRIBUTION),
            "The score of this file among those of the calibration's LoRAs, if it was used.",
            late=True,
        ),
        "people": Member(
            Many(_RETURNED),
            "People who come back, the most frequent first; empty if nobody does, or too faintly to count.",
            late=True,
        ),
        "made": Member(
            _MADE,
            "When the scan was made and how long it took. All else is equal for equal input.",
            late=True,
            left_out=True,
        ),
        "withheld": Member(
            Many(_WITHHELD),
            "Findings below the severity that is shown.",
            late=True,
            left_out=True,
        ),
    },
    "One target.",
    name="report",
)
"""The report of one target."""


ReportsV1: Final = Object(
    dict,
    {
        "schema": Member(Choice((SEVERAL,)), source="added"),
        "reports": Member(Many(ReportV1)),
    },
    "Several targets, in the order they were given.",
    name="reports",
)
"""The reports of several targets."""


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of both documents."""
    documents = (ReportV1, ReportsV1)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:loraudit:report:1",
        "title": "loraudit scan --format json",
        "oneOf": [document.schema() for document in documents],
        "$defs": definitions(*documents),
    }

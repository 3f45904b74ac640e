"""The vocabulary of a report: severity, scores, findings and the report itself.

Evidence is stored, judgement is derived: `policy.judge` turns evidence into findings, and a report's verdict
and its exit code (`exits`) follow from its findings and from what was left undone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import total_ordering
from typing import TYPE_CHECKING

from loraudit.findings.conditions import Settings

if TYPE_CHECKING:
    from loraudit.findings.exhibits import Distribution, ModuleNorm, Sheet

__all__ = [
    "Allowed",
    "Confidence",
    "Finding",
    "Gap",
    "Modules",
    "Report",
    "Score",
    "Severity",
    "Target",
    "Verdict",
    "unscannable",
]


@total_ordering
class Severity(Enum):
    """How much came back, and the level of a report. The order says which of several findings leads.

    `inconclusive` (could not look, or looked and cannot tell) outranks `none`, because unknown is never
    clean, and yields to anything that was shown.
    """

    NONE = "none"
    INCONCLUSIVE = "inconclusive"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Severity):
            return NotImplemented
        order = list(Severity)
        return order.index(self) < order.index(other)


class Confidence(Enum):
    """How far to trust a finding, apart from its severity; `high` of an attack needs calibration data."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True)
class Score:
    """One measured number. The same number of a control is a score of its own, named by `of_control`."""

    name: str
    """`faces`, `consistency`, `accepted`, `copies`, `cosine`, `consensus`, `rank`, `clip-i`, `clip-t`;
    with `.base` and `.scrambled` those of the controls: the base model, and a scrambled copy of the LoRA."""
    attack: str
    against: str
    """Similarity to what: `reference`, `each other`, `class prompt`, `true prompt`; `face detector` for
    `faces`."""
    value: float | None
    """Share in 0..1 or mean cosine in -1..1; None if there was nothing to measure."""
    n: int
    """Pairs for `against` = `each other`, otherwise pictures."""
    low: float | None = None
    """Lower end of the 95 % interval; None where none can be given."""
    high: float | None = None
    null_p95: float | None = None
    """What the null reaches in at most 5 % of cases."""
    p_value: float | None = None
    """One-sided, tuned above base; not corrected for the number of attacks."""

    @property
    def is_control(self) -> bool:
        """Whether this is a control of another score."""
        return self.name.endswith((".base", ".scrambled"))

    def of_control(self, control: str) -> tuple[str, str, str]:
        """(name, attack, against) of this score's `control`, `base` or `scrambled`."""
        return f"{self.name}.{control}", self.attack, self.against


@dataclass(frozen=True)
class Allowed:
    """Somebody decided that a finding about this file is acceptable."""

    reason: str
    """In the words of whoever decided."""
    until: str | None = None
    """The last day on which that holds, `2027-01-31`; None: no end."""


@dataclass(frozen=True)
class Finding:
    """One answer to one question, with the numbers behind it."""

    id: str
    """Stable rule id, `LA-IDENTITY-001`."""
    severity: Severity
    confidence: Confidence
    title: str
    detail: str
    """What was seen and what it means. Never holds words of the file; those are `quotes`."""
    remedy: str
    """What to do about it."""
    summary: str = ""
    """One plain sentence for the verdict; `title` serves if empty."""
    numbers: Mapping[str, float | int | str | None] = field(default_factory=dict)
    quotes: tuple[str, ...] = ()
    """Private words of the file (names, captions, triggers), hidden unless asked for."""
    places: tuple[str, ...] = ()
    """Where it was seen, in words of ours; empty for what comes from the weights."""
    known: bool | None = None
    """Whether it was there in an earlier report, `--baseline`; None: there is none to compare with."""
    allowed: Allowed | None = None
    """The decision that it may be there, `--allow`; None: there is none."""

    @property
    def counts(self) -> bool:
        """Whether it bears on the exit code. Every format shows it either way."""
        return not self.mark

    @property
    def mark(self) -> str:
        """`allowed`, `known`, or empty if it counts."""
        return "allowed" if self.allowed is not None else "known" if self.known else ""

    @property
    def excuse(self) -> str:
        """Why it does not count, in a sentence; empty if it does."""
        if self.allowed is not None:
            until = f" until {self.allowed.until}" if self.allowed.until else ""
            return f"Allowed{until}, does not count: {self.allowed.reason}"
        return "Known from the baseline, does not count." if self.known else ""

    @property
    def anchor(self) -> str:
        """Where the rule is explained."""
        return f"docs/rules.md#{self.id.lower()}"

    def told(self, reveal: bool) -> str:
        """`detail`, followed by the quotes, or by how many are hidden."""
        if not self.quotes:
            return self.detail
        if reveal:
            return f"{self.detail} Private words: " + ", ".join(f'"{quote}"' for quote in self.quotes) + "."
        words = "1 text" if len(self.quotes) == 1 else f"{len(self.quotes)} texts"
        return f"{self.detail} {words} of the file hidden here (--reveal shows)."


@dataclass(frozen=True)
class Modules:
    """How much of the file was understood."""

    read: int
    """Sites whose update was read."""
    unread: int
    """Keys that were not understood."""

    @property
    def total(self) -> int:
        """Read and unread together."""
        return self.read + self.unread


@dataclass(frozen=True)
class Target:
    """The audited file. What could not be read, or was not asked for, is None."""

    name: str
    """As shown, made harmless and without its folder."""
    sha256: str | None = None
    """Of the weights; None where only the header was read."""
    size_bytes: int | None = None
    family: str | None = None
    base: str | None = None
    """The base model recognised, None if unknown."""
    dialect: str | None = None
    rank: tuple[int, int] | None = None
    """Smallest and largest rank among its sites."""
    modules: Modules | None = None
    origin: str | None = None
    """`hf://namespace/name@commit/path` of a file on the Hub, made harmless; None of a local one."""
    path: str | None = None
    """Below the folder that the scan was started in, with `/`, made harmless; None of a file elsewhere."""


@dataclass(frozen=True)
class Gap:
    """Something that could not be looked at."""

    what: str
    """The part of the audit: `target`, `base`, `attack paper`, ..."""
    why: str


@dataclass(frozen=True)
class Verdict:
    """The level of a report and the plain sentences that explain it, the weightiest first."""

    level: Severity
    reasons: tuple[str, ...]


_NOT_LOOKED = "Nothing was looked at."
_NOTHING_FOUND = (
    "Nothing in the metadata gives anybody away. Whether the weights do was not tried (--depth attack)."
)


@dataclass(frozen=True)
class Report:
    """All that a scan of one target has to say. Findings are kept worst first, then by id."""

    version: str
    """Of loraudit."""
    target: Target
    findings: tuple[Finding, ...] = ()
    scores: tuple[Score, ...] = ()
    settings: Settings = field(default_factory=Settings)
    incomplete: tuple[Gap, ...] = ()
    update: tuple[ModuleNorm, ...] = ()
    """Of every module that was read."""
    distributions: tuple[Distribution, ...] = ()
    """Empty where no calibration data were used."""
    sheet: Sheet | None = None
    """None unless pictures were made and asked for."""
    failed: bool = False
    """Whether an error kept it from being read at all: no such file, no network."""

    def __post_init__(self) -> None:
        by_id = sorted(self.findings, key=lambda finding: finding.id)
        worst_first = sorted(by_id, key=lambda finding: finding.severity, reverse=True)
        object.__setattr__(self, "findings", tuple(worst_first))

    @property
    def scanned(self) -> bool:
        """Whether the target could be read as deep as was asked: as a LoRA, or as far as its header."""
        if self.settings.depth == "metadata":
            return self.target.size_bytes is not None
        return self.target.family is not None

    @property
    def excused(self) -> str:
        """How many findings do not count, in a sentence; empty if all do."""
        marks = [finding.mark for finding in self.findings if finding.mark]
        told = ", ".join(f"{marks.count(mark)} {mark}" for mark in ("allowed", "known") if mark in marks)
        return f"Findings that do not count for the exit code: {told}." if marks else ""

    @property
    def verdict(self) -> Verdict:
        """Level of the worst finding, but never clean when nothing, or not everything, was looked at.

        It is about the file: findings that are allowed or known are in it.
        """
        attacked = self.settings.depth == "attack"
        nothing = Severity.INCONCLUSIVE if attacked or not self.scanned else Severity.NONE
        level = max((finding.severity for finding in self.findings), default=nothing)
        if self.incomplete:
            level = max(level, Severity.INCONCLUSIVE)
        reasons = [finding.summary or finding.title for finding in self.findings if finding.severity is level]
        if level is Severity.INCONCLUSIVE:
            reasons += [f"Could not look at {gap.what}: {gap.why}" for gap in self.incomplete]
        return Verdict(level, tuple(reasons) or (_NOTHING_FOUND if level is Severity.NONE else _NOT_LOOKED,))


def unscannable(
    version: str, target: Target, why: str, findings: Iterable[Finding] = (), failed: bool = False
) -> Report:
    """The report of a `target` that is not a LoRA loraudit can attack; `findings` are what its words say.

    Exit code 3, unless one of them is severe enough; 2 if it `failed`.
    """
    return Report(version, target, tuple(findings), incomplete=(Gap("target", why),), failed=failed)

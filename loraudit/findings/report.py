"""Report of a scan of one target: the file, its findings and scores, and what was left undone.

Evidence is stored, judgement is derived. `loraudit.verdict` turns evidence into findings. A report's verdict
and its exit code (`exits`) follow from the findings and from the gaps.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from loraudit.findings.conditions import Settings
from loraudit.findings.finding import Finding, Score, Severity
from loraudit.findings.why import why

if TYPE_CHECKING:
    from loraudit.errors import LorauditError
    from loraudit.findings.exhibits import Distribution, ModuleNorm, Returned, Sheet

__all__ = ["Gap", "Made", "Modules", "Report", "Target", "Verdict", "Withheld", "gap", "unscannable"]


def gap(what: str, error: LorauditError) -> Gap:
    """Return the gap that `error` left where `what`, a part of the audit, should have run."""
    return Gap(what, f"{error}; {error.hint}" if error.hint else str(error))


@dataclass(frozen=True)
class Modules:
    """Parts of the file that were understood, and parts that were not."""

    read: int
    """Number of sites whose update was read."""
    unread: int
    """Number of keys that were not understood."""

    @property
    def total(self) -> int:
        """Sum of read and unread."""
        return self.read + self.unread


@dataclass(frozen=True)
class Target:
    """The audited file. A field that could not be read, or was not asked for, is None."""

    name: str
    """Name for display, escaped and without its folder."""
    sha256: str | None = None
    """SHA-256 of the weights; None where only the header was read."""
    size_bytes: int | None = None
    family: str | None = None
    base: str | None = None
    """The base model recognised, None if unknown."""
    dialect: str | None = None
    rank: tuple[int, int] | None = None
    """Smallest and largest rank among the sites."""
    modules: Modules | None = None
    origin: str | None = None
    """Address `hf://namespace/name@commit/path` of a file on the Hub, escaped; None for a local file."""
    path: str | None = None
    """Path below the folder that the scan was started in, with `/`, escaped; None for a file elsewhere."""


@dataclass(frozen=True)
class Gap:
    """Part of the audit that could not be looked at."""

    what: str
    """Name of the part: `target`, `base`, `attack paper`, ..."""
    why: str
    """Reason, and advice if there is any."""


@dataclass(frozen=True)
class Withheld:
    """Finding that is counted and not shown."""

    id: str
    severity: Severity
    counts: bool
    """True if the finding bears on the exit code."""


@dataclass(frozen=True)
class Made:
    """Time of a scan. Reports that differ in the time alone are equal."""

    date: str
    """Start of the scan in UTC, `2026-11-30T10:00:00Z`."""
    seconds: float | None = None
    """Duration in seconds; None where the date is a given one, so that equal input gives equal bytes."""


@dataclass(frozen=True)
class Verdict:
    """Level of a report and the plain sentences that explain the level."""

    level: Severity
    reasons: tuple[str, ...]
    """Sentences, at least one, the weightiest first."""
    why: str = ""
    """Sentence on what would have made the level one higher, and one lower."""


_NOT_LOOKED = "Nothing was looked at."
_NOT_SHOWN = "The findings of this level are not shown."
_NARROWED = "None of the rules that were asked for found anything. The other rules did not count."
_NOTHING_FOUND = (
    "Nothing in the metadata gives anybody away. Whether the weights do was not tried (--depth attack)."
)
_NOTHING_DRAWN = (
    "Nothing in the metadata gives anybody away. No picture was drawn, so whom the weights show was not "
    "tried; --reference PHOTOS asks about one person without a picture."
)


@dataclass(frozen=True)
class Report:
    """Result of a scan of one target. Findings are kept worst first, then by id."""

    version: str
    """Version of loraudit."""
    target: Target
    findings: tuple[Finding, ...] = ()
    scores: tuple[Score, ...] = ()
    settings: Settings = field(default_factory=Settings)
    incomplete: tuple[Gap, ...] = ()
    update: tuple[ModuleNorm, ...] = ()
    """Norms of every module that was read."""
    distributions: tuple[Distribution, ...] = ()
    """Scores of this file among those of other LoRAs; empty where no calibration data were used."""
    people: tuple[Returned, ...] = ()
    """People who come back, the most frequent first; empty if nobody does or their number is not known."""
    sheet: Sheet | None = None
    """Pictures; None unless they were made and asked for."""
    failed: bool = False
    """True if an error kept the target from being read or attacked: no such file, a damaged encoder."""
    made: Made | None = field(default=None, compare=False)
    """Time of the scan; None if not known."""
    withheld: tuple[Withheld, ...] | None = None
    """Findings below the severity that is shown; None: there are none."""

    def __post_init__(self) -> None:
        by_id = sorted(self.findings, key=lambda finding: finding.id)
        worst_first = sorted(by_id, key=lambda finding: finding.severity, reverse=True)
        object.__setattr__(self, "findings", tuple(worst_first))

    @property
    def scanned(self) -> bool:
        """True if the target could be read as far as was asked: as a LoRA, or for `metadata` its header."""
        if self.settings.depth == "metadata":
            return self.target.size_bytes is not None
        return self.target.family is not None

    @property
    def excused(self) -> str:
        """Sentence with the number of findings that do not count; empty if all count."""
        marks = [finding.mark for finding in self.findings if finding.mark]
        told = ", ".join(f"{marks.count(mark)} {mark}" for mark in ("allowed", "known") if mark in marks)
        return f"Findings that do not count for the exit code: {told}." if marks else ""

    @property
    def notes(self) -> str:
        """Sentences on findings that do not count and on findings that are not shown; empty without any."""
        count = len(self.withheld or ())
        are = "1 finding is" if count == 1 else f"{count} findings are"
        return " ".join(filter(None, (self.excused, f"{are} not shown (--min-severity)." if count else "")))

    @property
    def verdict(self) -> Verdict:
        """Level of the worst finding, but never clean when nothing, or not everything, was looked at.

        The verdict is about the file, so findings that are allowed or known count here.
        """
        narrowed = self.settings.rules is not None
        attacked = self.settings.depth == "attack" and not narrowed
        nothing = Severity.INCONCLUSIVE if attacked or not self.scanned else Severity.NONE
        judged: list[Finding | Withheld] = [*self.findings, *(self.withheld or ())]
        level = max((finding.severity for finding in judged), default=nothing)
        if self.incomplete:
            level = max(level, Severity.INCONCLUSIVE)
        reasons = [finding.summary or finding.title for finding in self.findings if finding.severity is level]
        if level is Severity.INCONCLUSIVE:
            reasons += [f"Could not look at {gap.what}: {gap.why}" for gap in self.incomplete]
        if not reasons and judged:
            reasons = [_NOT_SHOWN]
        untried = _NOTHING_DRAWN if self.settings.pictures is False else _NOTHING_FOUND
        nothing_found = _NARROWED if narrowed else untried
        told = tuple(reasons) or (nothing_found if level is Severity.NONE else _NOT_LOOKED,)
        return Verdict(level, told, why(level, self.findings, bool(self.incomplete)))


def unscannable(
    version: str, target: Target, why: str, findings: Iterable[Finding] = (), failed: bool = False
) -> Report:
    """Return the report of a `target` that loraudit cannot attack; `findings` come from the metadata.

    The exit code of the report is 3 unless a finding is severe enough, and 2 if reading `failed`.
    """
    return Report(version, target, tuple(findings), incomplete=(Gap("target", why),), failed=failed)

"""Finding: an answer of an audit with its severity, its confidence and the numbers behind it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import total_ordering

from loraudit.hiding import mask

__all__ = ["Allowed", "Confidence", "Finding", "Score", "Severity", "Step", "leading_attack"]


@total_ordering
class Severity(Enum):
    """Amount that came back, and level of a report; the worst of several findings leads.

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
    """Trust in a finding, apart from its severity; `high` of an attack needs calibration data."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True)
class Score:
    """A measured number. The same number of a control is a score of its own, named by `of_control`."""

    name: str
    """Name: `faces`, `consistency`, `accepted`, `copies`, `cosine`, `consensus`, `rank`, `clip-i`, `clip-t`.

    Names of controls end in `.base` (the base model) or `.scrambled` (a scrambled copy of the LoRA).
    """
    attack: str
    """Name of the attack that was measured."""
    against: str
    """Object of the comparison: `reference`, `each other`, `class prompt`, `true prompt`.

    The score `faces` has `face detector`.
    """
    value: float | None
    """Share in 0..1 or mean cosine in -1..1; None if there was nothing to measure."""
    n: int
    """Number of pairs for `against` = `each other`, otherwise of pictures."""
    low: float | None = None
    """Lower end of the 95 % interval; None where none can be given."""
    high: float | None = None
    """Upper end of the 95 % interval; None where none can be given."""
    null_p95: float | None = None
    """Value that the null exceeds in at most 5 % of cases."""
    p_value: float | None = None
    """p-value, one-sided, tuned above base; not corrected for the number of attacks."""

    @property
    def is_control(self) -> bool:
        """True for a control of another score."""
        return self.name.endswith((".base", ".scrambled"))

    def of_control(self, control: str) -> tuple[str, str, str]:
        """Return (name, attack, against) of this score's `control`, `base` or `scrambled`."""
        return f"{self.name}.{control}", self.attack, self.against


@dataclass(frozen=True)
class Allowed:
    """Decision of somebody that a finding about this file is acceptable."""

    reason: str
    """Reason in the words of whoever decided."""
    until: str | None = None
    """Last day of the decision, `2027-01-31`; None: no end."""


@dataclass(frozen=True)
class Step:
    """Condition on a number that parts a finding from the next level."""

    level: Severity
    """Level that the finding would have: where the condition held, or, one level down, where it failed."""
    number: str
    """Name of the number, in words: `share of pairs`."""
    here: float
    """Value of this scan."""
    relation: str
    """Relation of the value to the threshold that the higher of the two levels takes: `>=`, `>` or `<=`."""
    threshold: float

    @property
    def holds(self) -> bool:
        """True if the value stands in the relation to the threshold."""
        if self.relation == "<=":
            return self.here <= self.threshold
        return self.here > self.threshold or (self.relation == ">=" and self.here == self.threshold)


@dataclass(frozen=True)
class Finding:
    """An answer to one question, with the numbers behind it."""

    id: str
    """Stable rule id, `LA-IDENTITY-001`."""
    severity: Severity
    confidence: Confidence
    title: str
    detail: str
    """Observation and its meaning. Never holds words of the file; those are `quotes`."""
    remedy: str
    """Advice on what to do."""
    summary: str = ""
    """Plain sentence for the verdict; `title` serves if empty."""
    numbers: Mapping[str, float | int | str | None] = field(default_factory=dict)
    quotes: tuple[str, ...] = ()
    """Private words of the file (names, captions, triggers), hidden unless asked for."""
    places: tuple[str, ...] = ()
    """Parts of the file where something was seen, in fixed words; empty for a finding from the weights."""
    known: bool | None = None
    """True if an earlier report, `--baseline`, has the finding; None without an earlier report."""
    allowed: Allowed | None = None
    """Decision that the finding is acceptable, `--allow`; None without a decision."""
    higher: tuple[Step, ...] = ()
    """Conditions that failed: with all of them the finding would be one level higher."""
    lower: tuple[Step, ...] = ()
    """Conditions that held: without any of them the finding would be one level lower."""

    def __post_init__(self) -> None:
        # The last border: no format, and no option, shows a secret.
        object.__setattr__(self, "quotes", tuple(map(mask, self.quotes)))

    @property
    def counts(self) -> bool:
        """True if the finding bears on the exit code. Every format shows it either way."""
        return not self.mark

    @property
    def mark(self) -> str:
        """Word `allowed` or `known`; empty if the finding counts."""
        return "allowed" if self.allowed is not None else "known" if self.known else ""

    @property
    def excuse(self) -> str:
        """Reason why the finding does not count, in a sentence; empty if it does."""
        if self.allowed is not None:
            until = f" until {self.allowed.until}" if self.allowed.until else ""
            return f"Allowed{until}, does not count: {self.allowed.reason}"
        return "Known from the baseline, does not count." if self.known else ""

    @property
    def anchor(self) -> str:
        """Address of the explanation of the rule."""
        return f"docs/rules.md#{self.id.lower()}"

    def told(self, reveal: bool) -> str:
        """Return `detail`, followed by the quotes or by how many are hidden."""
        if not self.quotes:
            return self.detail
        if reveal:
            return f"{self.detail} Private words: " + ", ".join(f'"{quote}"' for quote in self.quotes) + "."
        words = "1 text" if len(self.quotes) == 1 else f"{len(self.quotes)} texts"
        return f"{self.detail} {words} of the file hidden here (--reveal shows)."


def leading_attack(findings: Iterable[Finding]) -> str | None:
    """Return the attack behind the worst of `findings`, given worst first, that rests on one."""
    attacks = (finding.numbers.get("attack") for finding in findings)
    return next((attack for attack in attacks if isinstance(attack, str)), None)

"""Levels as conditions on numbers, from which the level follows, and why it is not the next one."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from loraudit.findings.finding import Severity, Step

__all__ = ["Ladder", "condition", "higher", "level_of", "lower"]

Ladder: TypeAlias = Mapping[Severity, Sequence[Step]]
"""Level, the lowest first => all conditions of that level."""


def condition(
    level: Severity, number: str, here: float | None, relation: str, threshold: float
) -> list[Step]:
    """Return the condition of a level on a number; none where the number is not known."""
    return [] if here is None else [Step(level, number, here, relation, threshold)]


def level_of(ladder: Ladder) -> Severity:
    """Return the highest level whose conditions all hold, and those of the lowest as well; or `none`."""
    lowest = next(iter(ladder))
    if not _holds(ladder[lowest]):
        return Severity.NONE
    return max(level for level, steps in ladder.items() if _holds(steps))


def higher(ladder: Ladder, level: Severity) -> tuple[Step, ...]:
    """Return the conditions that keep a finding of `level` from the next level of the ladder."""
    above = [one for one in ladder if one > level]
    return tuple(step for step in ladder[min(above)] if not step.holds) if above else ()


def lower(ladder: Ladder, level: Severity) -> tuple[Step, ...]:
    """Return the conditions of `level` that the level below it does not have.

    Each bears the level that the finding falls to without it. Returns none for a level outside the ladder.
    """
    if level not in ladder:
        return ()
    below = max((one for one in ladder if one < level), default=Severity.NONE)
    known = {(step.number, step.relation, step.threshold) for step in ladder.get(below, ())}
    return tuple(
        Step(below, step.number, step.here, step.relation, step.threshold)
        for step in ladder[level]
        if (step.number, step.relation, step.threshold) not in known
    )


def _holds(steps: Sequence[Step]) -> bool:
    return all(step.holds for step in steps)

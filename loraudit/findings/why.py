"""Why a report is at its level: what would have made it one level higher, and one lower."""

from collections.abc import Sequence

from loraudit.findings.finding import Finding, Severity, Step

__all__ = ["why"]

_OTHERWISE = {">=": "below {}", ">": "of {} or less", "<=": "above {}"}
_WITH = {">=": "of {} or more", ">": "above {}", "<=": "of {} or less"}


def why(level: Severity, findings: Sequence[Finding], partial: bool) -> str:
    """Return a sentence on a report of `level` with these findings, worst first.

    The sentence tells numbers and thresholds of the first finding of that level that rests on any. `partial`
    is True if a part could not be looked at.
    """
    at = [finding for finding in findings if finding.severity is level]
    rest = max((one.severity for one in findings if one.severity < level), default=Severity.NONE).value
    above = [one for one in Severity if one > level and one is not Severity.INCONCLUSIVE]
    raises = f"a finding of {above[0].value} would raise it" if above else "no level is higher"
    for finding in at:
        if finding.higher or finding.lower:
            return f"{finding.id} would be {_steps(finding, above)}."
    if at and level is not Severity.NONE:
        ids = ", ".join(dict.fromkeys(finding.id for finding in at))
        return f"Without {ids} the report would be {rest}; {raises}."
    if partial and level is Severity.INCONCLUSIVE:
        return f"With everything looked at the report would be {rest}, if no more were found; {raises}."
    return f"No level is lower; {raises}."


def _steps(finding: Finding, above: Sequence[Severity]) -> str:
    told = []
    if finding.higher:
        needs = " and ".join(f"{_named(step)} {_number(_WITH, step)}" for step in finding.higher)
        told.append(f"{finding.higher[0].level.value} with {needs}")
    elif above:
        told.append(f"{above[0].value} by none of its numbers")
    if finding.lower:
        either = " or ".join(f"{_named(step)} {_number(_OTHERWISE, step)}" for step in finding.lower)
        told.append(f"{finding.lower[0].level.value} with {either}")
    return ", and ".join(told)


def _named(step: Step) -> str:
    return f"a {step.number}"


def _number(words: dict[str, str], step: Step) -> str:
    return f"{words[step.relation].format(_short(step.threshold))} (here {_short(step.here)})"


def _short(value: float) -> str:
    """Return a number with two digits, a whole number as it is."""
    if value == int(value):
        return f"{value:g}"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"

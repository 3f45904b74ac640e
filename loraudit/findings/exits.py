"""Exit codes of `loraudit scan`: the meaning of a report for a calling program."""

from collections.abc import Iterable, Sequence
from enum import IntEnum

from loraudit.findings.finding import Finding, Severity
from loraudit.findings.report import Report, Withheld

__all__ = ["Exit", "combine_exit_codes", "exit_code"]


class Exit(IntEnum):
    """Exit codes of `loraudit scan`."""

    CLEAN = 0
    """No finding that counts at or above `--fail-on`."""
    FOUND = 1
    """A finding that counts at or above `--fail-on`."""
    ERROR = 2
    """Usage or internal error."""
    NOTHING = 3
    """No target that could be scanned."""
    INCOMPLETE = 4
    """Part of the audit that could not run, or an inconclusive verdict."""


def exit_code(report: Report, fail_on: Severity | None = Severity.HIGH) -> Exit:
    """Return the exit code of one report; with `fail_on` None no finding is a failure.

    Findings that are allowed or known from a baseline do not count, inconclusive ones included. Gaps always
    count, as nobody has seen what is in them. Raises ValueError if `fail_on` is not low, medium, high or
    critical.
    """
    if fail_on is not None and fail_on < Severity.LOW:
        raise ValueError(f"cannot fail on {fail_on.value!r}: choose low, medium, high, critical or never")
    if report.failed:
        return Exit.ERROR
    judged: list[Finding | Withheld] = [*report.findings, *(report.withheld or ())]
    severities = [finding.severity for finding in judged if finding.counts]
    if fail_on is not None and max(severities, default=Severity.NONE) >= fail_on:
        return Exit.FOUND
    if not report.scanned:
        return Exit.NOTHING
    unjudged = not judged and report.verdict.level is Severity.INCONCLUSIVE
    if Severity.INCONCLUSIVE in severities or report.incomplete or unjudged:
        return Exit.INCOMPLETE
    return Exit.CLEAN


def combine_exit_codes(codes: Iterable[int]) -> Exit:
    """Return the exit code of several targets: the worst, in the order 2 > 1 > 4 > 3 > 0; 3 for no target."""
    worst_first: Sequence[Exit] = (Exit.ERROR, Exit.FOUND, Exit.INCOMPLETE, Exit.NOTHING, Exit.CLEAN)
    given = {Exit(code) for code in codes}
    return next((code for code in worst_first if code in given), Exit.NOTHING)

"""Exit codes of `loraudit scan`: what a report means for whoever waits for it."""

from collections.abc import Iterable, Sequence
from enum import IntEnum

from loraudit.findings.finding import Severity
from loraudit.findings.report import Report

__all__ = ["Exit", "combine_exit_codes", "exit_code"]


class Exit(IntEnum):
    """Exit codes of `loraudit scan`."""

    CLEAN = 0
    """Nothing that counts at or above `--fail-on`."""
    FOUND = 1
    """Something is."""
    ERROR = 2
    """Usage or internal error."""
    NOTHING = 3
    """Nothing that could be scanned."""
    INCOMPLETE = 4
    """Part of the audit could not run, or its verdict is inconclusive."""


def exit_code(report: Report, fail_on: Severity | None = Severity.HIGH) -> Exit:
    """Exit code of one report; `fail_on` None never fails on a finding.

    Findings that are allowed or known from a baseline do not count, inconclusive ones included. What could
    not be looked at always does: nobody has seen it. Raises ValueError if `fail_on` is not one of low,
    medium, high, critical.
    """
    if fail_on is not None and fail_on < Severity.LOW:
        raise ValueError(f"cannot fail on {fail_on.value!r}: choose low, medium, high, critical or never")
    if report.failed:
        return Exit.ERROR
    severities = [finding.severity for finding in report.findings if finding.counts]
    if fail_on is not None and max(severities, default=Severity.NONE) >= fail_on:
        return Exit.FOUND
    if not report.scanned:
        return Exit.NOTHING
    unjudged = not report.findings and report.verdict.level is Severity.INCONCLUSIVE
    if Severity.INCONCLUSIVE in severities or report.incomplete or unjudged:
        return Exit.INCOMPLETE
    return Exit.CLEAN


def combine_exit_codes(codes: Iterable[int]) -> Exit:
    """Exit code of several targets: the worst, in the order 2 > 1 > 4 > 3 > 0; 3 for no target at all."""
    worst_first: Sequence[Exit] = (Exit.ERROR, Exit.FOUND, Exit.INCOMPLETE, Exit.NOTHING, Exit.CLEAN)
    given = {Exit(code) for code in codes}
    return next((code for code in worst_first if code in given), Exit.NOTHING)

"""Gate: findings of an earlier report, or allowed by somebody, do not count for the exit code.

`baseline` reads an earlier report, `allow` a list of decisions. A finding that does not count is marked as
`known` or `allowed`. Every format still shows such a finding, and the verdict stays the same.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from loraudit.findings.report import Report
from loraudit.gate.allow import AllowList, read_allow
from loraudit.gate.baseline import Baseline, read_baseline
from loraudit.text import clean

__all__ = ["Gate", "read_gate"]


class Gate:
    """A baseline, a list of what is allowed, or both."""

    def __init__(self, baseline: Baseline | None, allow: AllowList | None) -> None:
        self._baseline = baseline
        self._allow = allow

    @property
    def expired(self) -> Sequence[str]:
        """Lines about the decisions whose time is over, one each."""
        return self._allow.expired if self._allow else ()

    def mark(self, report: Report, files: Sequence[Path]) -> Report:
        """Return `report` with its findings marked; `files` are those of the target on this machine, if any.

        Each finding of the baseline makes only one finding known, so mark a report once.
        """
        findings = report.findings
        if self._baseline is not None:
            baseline = self._baseline
            folder = clean(files[0].absolute().parent.name) if files else ""
            findings = tuple(replace(f, known=baseline.knows(report.target, f, folder)) for f in findings)
        if self._allow is not None:
            digests = self._allow.digests_of(report.target, files, {f.id for f in findings})
            allow = self._allow
            findings = tuple(replace(f, allowed=allow.decision(f.id, digests)) for f in findings)
        return replace(report, findings=findings)


def read_gate(baseline: Path | None, allow: Path | None) -> Gate:
    """Read the gate from an earlier JSON report and a TOML file of decisions.

    Raises `LorauditError` if a file cannot be read or used.
    """
    return Gate(
        None if baseline is None else read_baseline(baseline), None if allow is None else read_allow(allow)
    )

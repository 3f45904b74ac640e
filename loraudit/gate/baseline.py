"""Baseline for `--baseline`: findings of an earlier report are known, and only new findings count."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loraudit.errors import LorauditError
from loraudit.files import read_bounded
from loraudit.findings.finding import Finding, Severity
from loraudit.findings.fingerprints import fingerprint
from loraudit.findings.report import Target
from loraudit.report.document import MOST_BYTES, FindingV1, ReportV1, TargetV1
from loraudit.report.kinds import HINT
from loraudit.report.load import read_parts
from loraudit.report.shapes import Many
from loraudit.text import clean

__all__ = ["Baseline", "read_baseline"]

_REPORT: Final = ReportV1.part(
    target=TargetV1.part("sha256"),
    findings=Many(FindingV1.part("severity", "fingerprint", "allowed")),
)
"""Members of a report that a comparison needs."""


@dataclass(frozen=True)
class _Known:
    """Finding of the earlier report."""

    severity: Severity
    sha256: str | None
    """SHA-256 of the file that the finding is about."""


class Baseline:
    """Findings of an earlier report, by fingerprint."""

    def __init__(self, known: dict[str, list[_Known]]) -> None:
        self._known = known

    def knows(self, target: Target, finding: Finding) -> bool:
        """Return True if the earlier report holds `finding`, at least as severe; each finding serves once.

        A finding from the weights must have come from the same bytes: other weights under the same name may
        hold another person.
        """
        earlier = self._known.get(fingerprint(target, finding), [])
        for one in earlier:
            same_file = bool(finding.places) or one.sha256 == target.sha256
            if same_file and finding.severity <= one.severity:
                earlier.remove(one)
                return True
        return False


def read_baseline(path: Path) -> Baseline:
    """Return the findings in the JSON report at `path`, without those that were allowed.

    An allowed finding is not known for ever, as a decision may expire. Raises `LorauditError` if the file is
    no such report.
    """
    data = read_bounded(path, "the baseline", MOST_BYTES)
    shown = clean(str(path), 300)
    try:
        reports = read_parts(data, _REPORT)
    except LorauditError:
        raise LorauditError(f"the baseline {shown} is no report of a scan in JSON", HINT) from None
    known: dict[str, list[_Known]] = {}
    for report in reports:
        for finding in report["findings"]:
            if finding.get("allowed") is not None:
                continue
            if "fingerprint" not in finding:
                raise LorauditError(
                    f"the baseline {shown} is by an earlier loraudit: its findings have no fingerprint",
                    HINT,
                )
            one = _Known(finding["severity"], report["target"]["sha256"])
            known.setdefault(finding["fingerprint"], []).append(one)
    return Baseline(known)

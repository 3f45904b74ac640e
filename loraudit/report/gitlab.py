"""Report for GitLab's Code Quality: a list of findings in JSON, shown in a merge request.

GitLab compares the list with that of the target branch by fingerprints, which must be unique in a list. A
finding of severity `none` is left out, and one that is known or allowed is an `info`.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from loraudit.findings.finding import Finding, Severity
from loraudit.findings.fingerprints import fingerprint
from loraudit.findings.report import Report
from loraudit.report import words
from loraudit.text import clean

__all__ = ["render"]

_TEXT_LIMIT: Final = 20_000
_SEVERITIES: Final = {
    Severity.CRITICAL: "blocker",
    Severity.HIGH: "critical",
    Severity.MEDIUM: "major",
    Severity.INCONCLUSIVE: "major",
    Severity.LOW: "minor",
}


def render(reports: Sequence[Report], *, reveal: bool = False) -> str:
    """Return the findings of all reports as one list; `reveal` shows private words of the file."""
    seen: Counter[str] = Counter()
    rows = []
    for report in reports:
        path = words.path_below(report.target)
        for check, told, severity, mark in _issues(report, reveal):
            text = json.dumps([mark, path])
            seen[text] += 1
            digest = hashlib.sha256(f"{text}{seen[text]}".encode()).hexdigest()[:32]
            rows.append(_row(check, told, severity, path, digest))
    return json.dumps(rows, sort_keys=True, indent=2, allow_nan=False) + "\n"


def _issues(report: Report, reveal: bool) -> list[tuple[str, str, str, str]]:
    """Return the check, text, severity and fingerprint of each finding and of each gap."""
    found = [
        (
            finding.id,
            _told(finding, reveal),
            _SEVERITIES[finding.severity] if finding.counts else "info",
            fingerprint(report.target, finding),
        )
        for finding in report.findings
        if finding.severity is not Severity.NONE
    ]
    return found + [
        ("not-looked-at", f"Not looked at: {gap.what}: {gap.why}", "major", f"not looked at {gap.what}")
        for gap in report.incomplete
    ]


def _told(finding: Finding, reveal: bool) -> str:
    parts = (f"{finding.title}.", finding.told(reveal), f"What to do: {finding.remedy}", finding.excuse)
    return " ".join(filter(None, parts))


def _row(check: str, told: str, severity: str, path: str, digest: str) -> dict[str, Any]:
    return {
        "type": "issue",
        "categories": ["Security"],
        "check_name": clean(check),
        "description": clean(told, _TEXT_LIMIT),
        "severity": severity,
        "fingerprint": digest,
        "location": {"path": path, "lines": {"begin": 1}},
    }

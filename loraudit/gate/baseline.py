"""`--baseline`: what an earlier report found is known, and only what is new counts."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from loraudit.errors import LorauditError
from loraudit.files import read_bounded
from loraudit.findings.finding import Finding, Severity
from loraudit.findings.fingerprints import fingerprint
from loraudit.findings.report import Target
from loraudit.text import clean

__all__ = ["Baseline", "read_baseline"]

_MOST: Final = 100_000_000
"""Bytes; a report of 2,000 files has about 20 million."""
_SCHEMAS: Final = ("loraudit.report/1", "loraudit.reports/1")
_HINT: Final = "write one with: loraudit scan TARGET --format json -o FILE"


@dataclass(frozen=True)
class _Known:
    """A finding of the earlier report."""

    severity: Severity
    sha256: str | None
    """Of the file it was about."""


class Baseline:
    """The findings of an earlier report, by fingerprint."""

    def __init__(self, known: dict[str, list[_Known]]) -> None:
        self._known = known

    def knows(self, target: Target, finding: Finding) -> bool:
        """Whether the earlier report holds `finding`, at least as severe; each of its findings serves once.

        What comes from the weights must have come from the same bytes: other weights under the same name may
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
    """The findings in the JSON report at `path`, but for those that were allowed, whose time may be over.

    Raises `LorauditError` if it is no such report.
    """
    data = read_bounded(path, "the baseline", _MOST)
    shown = clean(str(path), 300)
    try:
        document = json.loads(data)
        if document["schema"] not in _SCHEMAS:
            raise ValueError
        known: dict[str, list[_Known]] = {}
        for digits, one in _findings(document):
            known.setdefault(digits, []).append(one)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        if error.args == ("fingerprint",):
            raise LorauditError(
                f"the baseline {shown} is of an earlier loraudit, whose findings have no fingerprint", _HINT
            ) from None
        raise LorauditError(f"the baseline {shown} is no report of a scan in JSON", _HINT) from None
    return Baseline(known)


def _findings(document: dict[str, Any]) -> Iterator[tuple[str, _Known]]:
    for report in document.get("reports", [document]):
        for finding in report["findings"]:
            if finding.get("allowed") is None:
                severity = Severity(finding["severity"])
                yield str(finding["fingerprint"]), _Known(severity, report["target"]["sha256"])

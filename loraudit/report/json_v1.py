"""Writer of reports as JSON, schemas `loraudit.report/1` and `loraudit.reports/1` (see `document`).

Keys are sorted, characters outside ASCII are escaped, numbers have six significant digits, and a number that
is not finite is null.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from loraudit.findings.finding import Finding
from loraudit.findings.fingerprints import fingerprint
from loraudit.findings.report import Report
from loraudit.report.document import ONE, SEVERAL, ReportV1, schema
from loraudit.verdict.standards import standards_of

__all__ = ["render", "schema"]


def render(reports: Sequence[Report], *, reveal: bool = False) -> str:
    """Return one report as `loraudit.report/1`, any other number as `loraudit.reports/1`.

    Private words of the file stay apart from the rest, so that a reader of the report can still hide them.
    """
    documents = [_document(report, reveal) for report in reports]
    document = documents[0] if len(documents) == 1 else {"schema": SEVERAL, "reports": documents}
    return json.dumps(document, sort_keys=True, indent=2, allow_nan=False) + "\n"


def _document(report: Report, reveal: bool) -> dict[str, Any]:
    told = report if reveal else _without_words(report)
    document: dict[str, Any] = ReportV1.write(told) or {}
    document["schema"] = ONE
    for written, finding in zip(document["findings"], report.findings, strict=True):
        written["fingerprint"] = fingerprint(report.target, finding)
        written["standards"] = [entry.id for entry in standards_of(finding.id)]
    return document


def _without_words(report: Report) -> Report:
    """Return the report without private words of the file."""
    settings, stated = report.settings, report.settings.stated_base
    if stated is not None:
        settings = replace(settings, stated_base=replace(stated, quotes=()))
    return replace(report, findings=tuple(map(_hidden, report.findings)), settings=settings)


def _hidden(finding: Finding) -> Finding:
    return replace(finding, detail=finding.told(reveal=False), quotes=())

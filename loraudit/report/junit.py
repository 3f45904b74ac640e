"""Report as JUnit XML, which Jenkins, GitLab and others show as tests: a suite a target, a test a finding.

A finding that counts fails, one that is known or allowed is skipped, an inconclusive one and what could not
be looked at are errors. Severities are the types of failures: `--fail-on` decides the exit code alone.
"""

import re
from collections.abc import Sequence
from typing import Final
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from loraudit.findings.finding import Finding, Severity
from loraudit.findings.report import Report
from loraudit.report import words
from loraudit.text import clean

__all__ = ["render"]

_TEXT_LIMIT: Final = 20_000
_NAME_LIMIT: Final = 500
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML document may hold, not even escaped."""
_COUNTED: Final = {"failures": "failure", "errors": "error", "skipped": "skipped"}


def render(reports: Sequence[Report], *, reveal: bool = False) -> str:
    """Return one document with a suite for each report; `reveal` shows private words of the file."""
    root = Element("testsuites", name="loraudit")
    for report in reports:
        root.append(_suite(report, reveal))
    _count(root)
    indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{tostring(root, encoding="unicode")}\n'


def _suite(report: Report, reveal: bool) -> Element:
    suite = Element("testsuite", name=_text(report.target.name, _NAME_LIMIT))
    if report.made is not None:
        suite.set("timestamp", _text(report.made.date).removesuffix("Z"))
        if report.made.seconds is not None:
            suite.set("time", f"{report.made.seconds:.3f}")
    properties = SubElement(suite, "properties")
    facts = [
        ("verdict", words.level(report)),
        ("loraudit", report.version),
        ("sha256", report.target.sha256),
        ("origin", report.target.origin),
        *((label.lower(), value) for label, value in words.settings_rows(report.settings, reveal=reveal)),
    ]
    for name, value in facts:
        if value:
            SubElement(properties, "property", name=name, value=_text(value))
    for finding in report.findings:
        _finding(_case(suite, report, f"{finding.id} {finding.title}"), finding, reveal)
    for gap in report.incomplete:
        case = _case(suite, report, f"Not looked at: {gap.what}")
        SubElement(case, "error", type="incomplete", message=_text(gap.why))
    if not report.findings and not report.incomplete:
        _case(suite, report, "No finding")
    told = (*report.verdict.reasons, report.notes, words.caveat(report))
    SubElement(suite, "system-out").text = "\n".join(_text(line) for line in told if line)
    _count(suite)
    return suite


def _case(suite: Element, report: Report, name: str) -> Element:
    path = _text(words.path_below(report.target), _NAME_LIMIT)
    return SubElement(suite, "testcase", name=_text(name, _NAME_LIMIT), classname=path, file=path)


def _finding(case: Element, finding: Finding, reveal: bool) -> None:
    told = _text(f"{finding.told(reveal)} What to do: {finding.remedy}")
    if finding.severity is Severity.NONE:
        SubElement(case, "system-out").text = told
    elif not finding.counts:
        SubElement(case, "skipped", message=_text(finding.excuse)).text = told
    else:
        kind = "error" if finding.severity is Severity.INCONCLUSIVE else "failure"
        SubElement(case, kind, type=finding.severity.value, message=_text(finding.title)).text = told


def _count(element: Element) -> None:
    """Set the numbers of tests and of their outcomes below `element`."""
    element.set("tests", str(len(list(element.iter("testcase")))))
    for attribute, kind in _COUNTED.items():
        element.set(attribute, str(len(list(element.iter(kind)))))


def _text(text: str, limit: int = _TEXT_LIMIT) -> str:
    return _NOT_XML.sub("\ufffd", clean(text, limit))

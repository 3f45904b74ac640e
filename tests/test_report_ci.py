"""JUnit XML and GitLab's Code Quality: what their readers require, whatever the file says."""

import dataclasses
import json
import re
import xml.etree.ElementTree as ET

import jsonschema
import pytest

from loraudit.findings.finding import Allowed, Confidence, Finding, Severity
from loraudit.findings.report import Gap, Made, Report, Target
from loraudit.report import FORMATS
from tests.test_report_formats import CLEAN, REPORT, SEVERAL, hostile

ISSUES = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["description", "check_name", "fingerprint", "severity", "location"],
        "properties": {
            "description": {"type": "string", "minLength": 1},
            "check_name": {"type": "string", "minLength": 1},
            "fingerprint": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
            "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
            "location": {
                "required": ["path", "lines"],
                "properties": {
                    "path": {"type": "string", "pattern": r"^(?!\.?/)."},
                    "lines": {"required": ["begin"], "properties": {"begin": {"type": "integer"}}},
                },
            },
        },
    },
}
"""What GitLab documents of a report: https://docs.gitlab.com/ci/testing/code_quality/."""


def issues(*reports: Report, reveal: bool = False) -> list[dict]:
    text = FORMATS["gitlab"](reports, reveal=reveal)
    assert text.isascii()
    found = json.loads(text)
    jsonschema.validate(found, ISSUES)
    assert len({one["fingerprint"] for one in found}) == len(found)
    return found


def junit(*reports: Report, reveal: bool = False) -> ET.Element:
    root = ET.fromstring(FORMATS["junit"](reports, reveal=reveal).encode())  # noqa: S314
    assert root.tag == "testsuites"
    for element in (root, *root):
        cases = list(element.iter("testcase"))
        assert int(element.attrib["tests"]) == len(cases)
        for name, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(element.attrib[name]) == sum(case.find(kind) is not None for case in cases)
    return root


def of_finding(**changes: object) -> Report:
    finding = Finding("LA-NAME-001", Severity.HIGH, Confidence.HIGH, "Title", "Seen.", "Do.")
    return Report("0", Target("a.safetensors", family="sd"), (dataclasses.replace(finding, **changes),))


ALL = [(), (REPORT,), (CLEAN,), SEVERAL, (REPORT, REPORT), (hostile(), hostile())]


@pytest.mark.parametrize("reveal", [False, True])
@pytest.mark.parametrize("reports", ALL)
def test_valid(reports: tuple[Report, ...], reveal: bool) -> None:
    issues(*reports, reveal=reveal)
    assert len(junit(*reports, reveal=reveal)) == len(reports)


@pytest.mark.parametrize(
    ("changes", "outcome", "severity"),
    [
        ({"severity": Severity.CRITICAL}, "failure", "blocker"),
        ({"severity": Severity.HIGH}, "failure", "critical"),
        ({"severity": Severity.MEDIUM}, "failure", "major"),
        ({"severity": Severity.LOW}, "failure", "minor"),
        ({"severity": Severity.INCONCLUSIVE}, "error", "major"),
        ({"severity": Severity.NONE}, None, None),
        ({"known": True}, "skipped", "info"),
        ({"known": False}, "failure", "critical"),
        ({"allowed": Allowed("It is I.")}, "skipped", "info"),
    ],
)
def test_outcomes(changes: dict[str, object], outcome: str | None, severity: str | None) -> None:
    (case,) = junit(of_finding(**changes)).iter("testcase")
    found = [kind for kind in ("failure", "error", "skipped") if case.find(kind) is not None]
    assert found == ([outcome] if outcome else [])
    if outcome in {"failure", "error"}:
        assert case.find(outcome).attrib["type"] == changes.get("severity", Severity.HIGH).value  # type: ignore[union-attr]
    assert [one["severity"] for one in issues(of_finding(**changes))] == ([severity] if severity else [])


def test_what_was_not_looked_at_is_in_both() -> None:
    report = Report("0", Target("a"), incomplete=(Gap("target", "a page"),))
    (case,) = junit(report).iter("testcase")
    error = case.find("error")
    assert error is not None and error.attrib["message"] == "a page"
    (issue,) = issues(report)
    assert issue["description"] == "Not looked at: target: a page"


def test_a_clean_file_is_a_test_that_passes_and_no_issue() -> None:
    report = Report("0", Target("a.safetensors", size_bytes=1))
    root = junit(report)
    assert [root.attrib[name] for name in ("tests", "failures", "errors", "skipped")] == ["1", "0", "0", "0"]
    assert issues(report) == []


def test_fingerprints_last_and_tell_files_apart() -> None:
    (before,) = issues(of_finding())
    (after,) = issues(of_finding(detail="other", title="Other", severity=Severity.LOW))
    assert after["fingerprint"] == before["fingerprint"]
    other = dataclasses.replace(of_finding(), target=Target("x", path="b/a.safetensors"))
    assert issues(other)[0]["fingerprint"] != before["fingerprint"]
    assert issues(other)[0]["location"]["path"] == "b/a.safetensors"


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "./a", "..", ""])
def test_no_path_leads_out(path: str) -> None:
    report = dataclasses.replace(of_finding(), target=Target(path or "x", path=path or None))
    told = issues(report)[0]["location"]["path"]
    assert not told.startswith(("/", ".")) and ".." not in told.split("/")
    (case,) = junit(report).iter("testcase")
    assert case.attrib["file"] == told


def test_characters_that_xml_cannot_hold() -> None:
    odd = "a\ufffeb\uffffc\x00d\x0be\ud800f]]><!--&\"'"
    root = junit(of_finding(title=odd, detail=odd, quotes=(odd,)), reveal=True)
    text = ET.tostring(root, encoding="unicode")
    assert not re.search("[\x00\x0b\ud800\ufffe\uffff]", text)
    assert root.find(".//failure") is not None


def test_the_time_of_the_scan() -> None:
    report = dataclasses.replace(of_finding(), made=Made("2026-11-30T10:00:00Z", 12.5))
    (suite,) = junit(report)
    assert (suite.attrib["timestamp"], suite.attrib["time"]) == ("2026-11-30T10:00:00", "12.500")
    assert "timestamp" not in junit(of_finding())[0].attrib

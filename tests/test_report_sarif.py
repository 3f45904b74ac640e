"""SARIF: valid by the official schema, complete for GitHub, the same alert from scan to scan.

`sarif-2.1.0-rtm.5.json` is the schema of the SARIF committee as schemastore published it.
"""

import dataclasses
import json
import urllib.parse
from pathlib import Path

import jsonschema
import pytest

from loraudit.findings.finding import Severity
from loraudit.findings.report import Target
from loraudit.report import FORMATS
from loraudit.verdict.catalogue import catalogue
from tests.test_report_formats import REPORT, SEVERAL, hostile

SCHEMA = json.loads((Path(__file__).parent / "sarif-2.1.0-rtm.5.json").read_text(encoding="utf-8"))


def run_of(*reports, reveal=False):
    """The one run of a document, once the schema takes that."""
    text = FORMATS["sarif"](reports, reveal=reveal)
    assert text.isascii()
    document = json.loads(text)
    jsonschema.Draft4Validator(SCHEMA, format_checker=jsonschema.FormatChecker()).validate(document)
    (run,) = document["runs"]
    return run


def of_finding(**changes):
    finding = dataclasses.replace(REPORT.findings[0], **changes)
    return dataclasses.replace(REPORT, findings=(finding,))


@pytest.mark.parametrize("reports", [(), (REPORT,), SEVERAL, (REPORT, REPORT), (hostile(), hostile())])
def test_valid(reports):
    run_of(*reports)
    run_of(*reports, reveal=True)


def test_the_schema_refuses_other_documents():
    document = json.loads(FORMATS["sarif"]([REPORT]))
    document["runs"][0]["results"][0]["level"] = "bad"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft4Validator(SCHEMA).validate(document)


def test_what_github_requires():
    run = run_of(*SEVERAL)
    rules = run["tool"]["driver"]["rules"]
    assert {rule["id"] for rule in rules} == {rule.id for rule in catalogue()}
    for rule in rules:
        for text in (rule["shortDescription"]["text"], rule["fullDescription"]["text"], rule["help"]["text"]):
            assert 0 < len(text) <= 1024 or text == rule["help"]["text"]
        assert rule["help"]["markdown"]
        assert 0 < float(rule["properties"]["security-severity"]) <= 10
        assert rule["properties"]["precision"] in {"low", "medium", "high"}
    assert len(run["results"]) == 3  # nothing found is no alert
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["message"]["text"]
        (location,) = result["locations"]
        region = location["physicalLocation"]["region"]
        assert set(region) == {"startLine", "startColumn", "endLine", "endColumn"}
        assert result["partialFingerprints"]["primaryLocationLineHash"]


@pytest.mark.parametrize(
    ("severity", "level", "least", "most"),
    [
        (Severity.CRITICAL, "error", 9.1, 10),
        (Severity.HIGH, "error", 7, 8.9),
        (Severity.MEDIUM, "warning", 4, 6.9),
        (Severity.INCONCLUSIVE, "warning", 4, 6.9),
        (Severity.LOW, "note", 0.1, 3.9),
    ],
)
def test_severities(severity, level, least, most):
    run = run_of(of_finding(severity=severity))
    (result,) = run["results"]
    rule = run["tool"]["driver"]["rules"][result["ruleIndex"]]
    assert result["level"] == level
    assert least <= float(rule["properties"]["security-severity"]) <= most


def test_an_alert_stays_the_same_when_scores_change():
    def mark(report):
        return run_of(report)["results"][0]["partialFingerprints"]

    before = mark(REPORT)
    worse = of_finding(severity=Severity.MEDIUM, detail="other", numbers={"value": 0.1}, title="Other")
    assert mark(worse) == before
    assert mark(dataclasses.replace(REPORT, scores=())) == before
    assert mark(dataclasses.replace(REPORT, target=Target("other.safetensors"))) != before
    assert mark(of_finding(id="LA-IDENTITY-002")) != before


def test_what_was_not_looked_at_is_told():
    whole = run_of(dataclasses.replace(REPORT, incomplete=()))["invocations"][0]
    assert whole == {"executionSuccessful": True, "toolExecutionNotifications": []}
    partly = run_of(REPORT)["invocations"][0]
    assert partly["executionSuccessful"] is True
    assert [told["level"] for told in partly["toolExecutionNotifications"]] == ["warning"]
    failed = run_of(*SEVERAL)["invocations"][0]
    assert failed["executionSuccessful"] is False
    assert failed["toolExecutionNotifications"][-1]["level"] == "error"


def test_what_does_not_count_is_marked():
    new, known, allowed = run_of(REPORT)["results"]
    assert (new.get("baselineState"), known["baselineState"]) == (None, "unchanged")
    assert allowed["suppressions"][0]["kind"] == "external"
    assert "suppressions" not in new


@pytest.mark.parametrize(
    ("name", "path", "uri"),
    [
        ("x.safetensors", None, "x.safetensors"),
        ("x.safetensors", "models/jane doe/x.safetensors", "models/jane%20doe/x.safetensors"),
        ("in/x.safetensors", None, "in/x.safetensors"),
        ("../../etc/passwd", "/etc/passwd", "etc/passwd"),
        ("x", "../../../etc/passwd", "etc/passwd"),
        ("..", None, "unnamed"),
        ("https://evil/x", None, "https%3A/evil/x"),
        (r"C:\Users\jane\x", None, "C%3A%5CUsers%5Cjane%5Cx"),
        ("Zoë 李.safetensors", None, "Zo%C3%AB%20%E6%9D%8E.safetensors"),
    ],
)
def test_a_file_is_named_from_the_working_folder_down(name, path, uri):
    run = run_of(dataclasses.replace(REPORT, target=Target(name, path=path)))
    named = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert named == uri == run["artifacts"][0]["location"]["uri"]
    split = urllib.parse.urlsplit(named)
    assert (split.scheme, split.netloc) == ("", "")


def test_a_message_holds_no_link():
    """`[words](https://...)` in a message is one."""
    link = of_finding(detail="x", quotes=("[click](https://evil)",))
    assert r"\[click\](https://evil)" in run_of(link, reveal=True)["results"][0]["message"]["text"]
    assert "click" not in FORMATS["sarif"]([link])


def test_many_rules_that_nobody_knows_cost_no_more_than_their_number():
    """A hostile report may name thousands: each is looked up, and not searched for among all others."""

    class Counted(str):
        __slots__ = ()
        __hash__ = str.__hash__
        compared = 0

        def __eq__(self, other):
            Counted.compared += 1
            return str.__eq__(self, other)

    names = ["LA-" + "".join(chr(65 + int(digit)) for digit in f"{i:04}") + "-001" for i in range(1000)]
    findings = tuple(dataclasses.replace(REPORT.findings[0], id=Counted(name)) for name in names)
    text = FORMATS["sarif"]([dataclasses.replace(REPORT, findings=findings)])
    # A search would compare 1,000 * 1,000 / 2 times.
    assert Counted.compared < 10 * len(names)
    assert findings[-1].id in [finding.id for finding in findings] and Counted.compared >= len(names) - 1
    (run,) = json.loads(text)["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rules[result["ruleIndex"]]["id"] for result in run["results"]] == names

"""Ids of public catalogues: every rule has some, and every format that can carry them does."""

import json
import re

import pytest

from loraudit.findings.finding import Severity
from loraudit.report import FORMATS
from loraudit.report.load import load_reports
from loraudit.verdict.catalogue import catalogue
from loraudit.verdict.standards import SCHEMES, standards_of
from tests.test_report_formats import REPORT
from tests.test_report_sarif import of_finding, run_of

SHAPES = {
    "NIST AI 100-2": r"NISTAML\.03[0-9]*",
    "MITRE ATLAS": r"AML\.T[0-9]{4}(\.[0-9]{3})?",
    "OWASP ML": r"ML(0[1-9]|10):2023",
    "CWE": r"CWE-[0-9]+",
}
RULES = catalogue()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_rule_has_ids(rule) -> None:
    assert rule.standards == standards_of(rule.id) != ()
    assert len({entry.id for entry in rule.standards}) == len(rule.standards)
    for entry in rule.standards:
        assert re.fullmatch(SHAPES[entry.scheme], entry.id)
        assert entry.title and entry.url.startswith("https://")


def test_the_ids_that_matter_most() -> None:
    ids = {rule.id: {entry.id for entry in rule.standards} for rule in RULES}
    person = {"NISTAML.032", "NISTAML.037", "AML.T0024.001", "AML.T0044", "ML03:2023", "CWE-359"}
    assert ids["LA-IDENTITY-001"] == ids["LA-IDENTITY-002"] == person
    assert "NISTAML.037" in ids["LA-COPY-001"]
    assert {"NISTAML.033", "AML.T0024.000", "ML04:2023"} <= ids["LA-IDENTITY-004"]
    for rule in ("LA-NAME-001", "LA-NAME-002", "LA-CAPTION-001", "LA-PATH-001"):
        assert {"CWE-1230", "CWE-212"} <= ids[rule]
    for rule in ("LA-DATASET-001", "LA-LINK-001"):
        assert {"NISTAML.034", "CWE-1230"} <= ids[rule]
    assert standards_of("LA-GONE-001") == ()


def test_formats() -> None:
    for kind in ("json", "html", "markdown", "sarif"):
        text = FORMATS[kind]([REPORT])
        for entry in standards_of("LA-IDENTITY-001"):
            assert re.sub("<!-- -->", "", entry.id) in re.sub("<!-- -->", "", text)
    found = json.loads(FORMATS["json"]([REPORT]))["findings"][0]
    assert found["standards"] == [entry.id for entry in standards_of("LA-IDENTITY-001")]
    unknown = of_finding(id="LA-GONE-001")
    assert json.loads(FORMATS["json"]([unknown]))["findings"][0]["standards"] == []


def test_a_report_says_what_this_release_knows() -> None:
    document = json.loads(FORMATS["json"]([REPORT]))
    whole = FORMATS["json"](load_reports(json.dumps(document).encode()))
    for change in (lambda one: one.pop("standards"), lambda one: one.update(standards=["CWE-1"])):
        changed = json.loads(json.dumps(document))
        change(changed["findings"][0])
        assert FORMATS["json"](load_reports(json.dumps(changed).encode())) == whole


def test_sarif_taxa_and_relationships() -> None:
    run = run_of(REPORT)
    taxonomies = run["taxonomies"]
    assert [one["name"] for one in taxonomies] == list(SCHEMES)
    assert run["tool"]["driver"]["supportedTaxonomies"] == [
        {"name": name, "index": at} for at, name in enumerate(SCHEMES)
    ]
    by_id = {rule.id: rule for rule in RULES}
    for rule in run["tool"]["driver"]["rules"]:
        told = set()
        for relation in rule["relationships"]:
            target = relation["target"]
            taxonomy = taxonomies[target["toolComponent"]["index"]]
            assert taxonomy["name"] == target["toolComponent"]["name"]
            assert taxonomy["taxa"][target["index"]]["id"] == target["id"]
            told.add(target["id"])
        assert told == {entry.id for entry in by_id[rule["id"]].standards}
        cwe = {f"external/cwe/{name.lower()}" for name in told if name.startswith("CWE-")}
        assert cwe == {tag for tag in rule["properties"]["tags"] if tag.startswith("external/")}
    odd = run_of(of_finding(id="LA-GONE-001", severity=Severity.HIGH))["tool"]["driver"]["rules"][-1]
    assert odd["id"] == "LA-GONE-001" and "relationships" not in odd

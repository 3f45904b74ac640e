"""The JSON of a report: its schema, and numbers that every parser reads."""

import dataclasses
import json
import math

import jsonschema
import pytest

from loraudit.findings.finding import Score
from loraudit.report import FORMATS
from loraudit.report.json_v1 import schema
from tests.test_report_formats import REPORT, SEVERAL


def valid(text):
    document = json.loads(text)
    jsonschema.Draft202012Validator(schema()).validate(document)
    return document


def test_json_follows_its_schema_and_the_design():
    document = valid(FORMATS["json"]([REPORT]))
    optional = {"update", "distributions", "failed"}
    assert set(document) == set(schema()["$defs"]["report"]["required"]) | optional
    for name in optional:
        document.pop(name)
    valid(json.dumps(document))  # as an earlier version wrote it
    assert document["schema"] == "loraudit.report/1"
    assert document["verdict"]["level"] == "high"
    assert document["target"]["rank"] == [4, 8]
    assert document["target"]["modules"] == {"read": 56, "unread": 2, "total": 58}
    several = valid(FORMATS["json"](SEVERAL))
    assert several["schema"] == "loraudit.reports/1"
    assert [report["verdict"]["level"] for report in several["reports"]] == ["high", "none", "inconclusive"]
    assert valid(FORMATS["json"]([])) == {"schema": "loraudit.reports/1", "reports": []}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda document: document.pop("incomplete"),
        lambda document: document.update(extra=1),
        lambda document: document["verdict"].update(level="fine"),
        lambda document: document["scores"][0].pop("p_value"),
        lambda document: document["target"].update(rank=[1]),
    ],
)
def test_schema_refuses_other_documents(spoil):
    document = json.loads(FORMATS["json"]([REPORT]))
    spoil(document)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema()).validate(document)


def test_json_has_no_nan_and_few_digits():
    numbers = {"a": math.nan, "b": math.inf, "c": -0.0, "d": 1 / 3, "e": 3, "f": None}
    score = Score("cosine", "paper", "reference", math.nan, 1, -math.inf, math.inf, 2 / 3)
    odd = dataclasses.replace(
        REPORT, findings=(dataclasses.replace(REPORT.findings[0], numbers=numbers),), scores=(score,)
    )
    text = FORMATS["json"]([odd])
    document = valid(text)
    assert document["findings"][0]["numbers"] == {
        "a": None,
        "b": None,
        "c": 0.0,
        "d": 0.333333,
        "e": 3,
        "f": None,
    }
    assert "-0.0" not in text
    assert document["scores"][0]["value"] is None
    assert document["scores"][0]["null_p95"] == 0.666667
    assert "nan" not in FORMATS["text"]([odd]).lower()

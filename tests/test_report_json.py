"""The JSON of a report: its schema, and numbers that every parser reads."""

import copy
import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

import loraudit.report
from loraudit.errors import LorauditError
from loraudit.findings.exhibits import Distribution
from loraudit.findings.finding import Score
from loraudit.findings.fingerprints import fingerprint
from loraudit.findings.report import Report
from loraudit.report import FORMATS
from loraudit.report.document import ReportsV1, ReportV1
from loraudit.report.json_v1 import schema
from loraudit.report.load import load_reports
from loraudit.report.shapes import Many, Object
from tests.test_report_formats import REPORT, SEVERAL


def valid(text):
    document = json.loads(text)
    jsonschema.Draft202012Validator(schema()).validate(document)
    return document


def test_json_follows_its_schema_and_the_design():
    document = valid(FORMATS["json"]([REPORT]))
    optional = {"update", "distributions", "failed", "people"}
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


SHIPPED = Path(loraudit.report.__file__).with_name("report_v1.schema.json")


def test_the_schema_that_ships_is_that_of_the_definition():
    """`python tests/test_report_formats.py` writes it anew."""
    assert json.loads(SHIPPED.read_text(encoding="utf-8")) == schema()
    jsonschema.Draft202012Validator.check_schema(schema())


def objects(kind: object) -> Iterator[Object]:
    """`kind` and all objects in it."""
    if isinstance(kind, Object):
        yield kind
        for member in kind.members.values():
            yield from objects(member.kind)
    elif isinstance(kind, Many):
        yield from objects(kind.kind)


def test_the_definition_has_every_field_of_the_record():
    seen = {kind.build: kind for kind in objects(ReportV1)}
    assert len(seen) == 19
    for record, kind in seen.items():
        fields = {field.name: field for field in dataclasses.fields(record)}
        stored = {name for name, member in kind.members.items() if member.source == "record"}
        derived = {name for name, member in kind.members.items() if member.source == "derived"}
        pictures = {"sheet"} if record is Report else set()
        assert stored | {name for name in fields if name in derived} == set(fields) - pictures
        for name in derived - set(fields):
            assert isinstance(getattr(record, name), property)
        for name, member in kind.members.items():
            if member.late and member.source == "record":
                field = fields[name]
                assert field.default is not dataclasses.MISSING, name


SMALL = dataclasses.replace(
    REPORT,
    findings=REPORT.findings[:2],
    scores=REPORT.scores[2:4],
    settings=dataclasses.replace(REPORT.settings, seeds=(0, 1)),
    update=REPORT.update[:2],
    distributions=(Distribution("agreement", 0.5, (0.5, 0.25), (1.0, 0.75)),),
)
DOCUMENT = json.loads(FORMATS["json"]([SMALL], reveal=True))
VALUES = (
    None, True, -1, 0, 1, 2, 0.5, 1.5, 1e300, "", "low", "0" * 64, "0" * 32, [], [1, 2], [-1, 1], [0.5],
    [None], ["a"], {}, {"a": 1}, {"a": []}, "metadata",
)  # fmt: skip
NOT_READ = {"schema", "verdict", "fingerprint", "total"}


def places(value: object, path: tuple = ()) -> Iterator[tuple]:
    """Every place in a document that is read."""
    if path:
        yield path
    inner = (
        value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    )
    for key, one in inner:
        if key not in NOT_READ:
            yield from places(one, (*path, key))


def stricter(path: tuple, value: object) -> bool:
    """Whether the reader has a bound here that the schema does not tell."""
    values = value if isinstance(value, list) else [value]
    within = {
        "seeds": lambda one: one >= 0,
        "here": lambda one: 0 <= one <= 1,
        "harmless": lambda one: 0 <= one <= 1,
        "leaking": lambda one: 0 <= one <= 1,
    }
    names = [name for name in path if name in within]
    numbers = [one for one in values if isinstance(one, int | float) and not isinstance(one, bool)]
    if path[-2:] == ("encoder", "sha256") and value is None:
        return True
    too_large = any(abs(one) >= 2**63 for one in numbers)
    return too_large or any(not within[names[-1]](one) for one in numbers if names)


def test_the_reader_takes_what_the_schema_allows():
    """One value of a document at a time is another; the members that are derived again are not read."""
    validator = jsonschema.Draft202012Validator({**schema()["$defs"]["report"], "$defs": schema()["$defs"]})
    taken = refused = 0
    for path in places(DOCUMENT):
        for value in VALUES:
            document = copy.deepcopy(DOCUMENT)
            inner = document
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = value
            allowed = validator.is_valid(document) and not stricter(path, value)
            try:
                load_reports(json.dumps(document).encode())
            except LorauditError:
                assert not allowed, (path, value)
                refused += 1
            else:
                assert allowed, (path, value)
                taken += 1
    assert taken > 500 and refused > 2000


def test_members_of_other_names_are_passed_over():
    """A later release may write more."""
    document = json.loads(FORMATS["json"]([REPORT], reveal=True))
    for one in (document, document["target"], document["findings"][0], document["settings"]["encoder"]):
        one["later"] = {"a": [1e300, "\ud800"]}
    (report,) = load_reports(json.dumps(document).encode())
    assert FORMATS["json"]([report], reveal=True) == FORMATS["json"]([REPORT], reveal=True)


def test_a_part_reads_no_more_than_its_members():
    part = ReportV1.part("version", target=ReportV1.members["target"].kind.part("name"))
    assert part.read({"version": "1", "target": {"name": "x", "rank": "?"}, "findings": 7}, "") == {
        "version": "1",
        "target": {"name": "x"},
    }
    with pytest.raises(LorauditError, match=r"target\.name is not a text"):
        part.read({"version": "1", "target": {"name": 1}}, "")
    assert set(ReportsV1.part("schema").members) == {"schema"}


def test_fingerprints_are_those_of_the_findings():
    document = json.loads(FORMATS["json"]([REPORT]))
    assert [one["fingerprint"] for one in document["findings"]] == [
        fingerprint(REPORT.target, finding) for finding in REPORT.findings
    ]

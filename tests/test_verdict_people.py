"""Several people in one file: each is found, counted, and compared with the photos."""

import json

import pytest

from loraudit.evidence.null import Null
from loraudit.findings.finding import Severity
from loraudit.findings.report import Report, Target
from loraudit.report import FORMATS
from loraudit.report.load import load_reports
from loraudit.verdict.judge import judge
from loraudit.verdict.people import returned
from loraudit.verdict.policy import Policy
from tests.seen import OTHER, SAME, seen, strangers_to

POLICY = Policy()
COUPLE = list("ab" * 8)
FEWER = list("aaaaaabbbbbbwxyz")
"""One person in six of sixteen pictures, another in six."""


def of_001(evidence, null=None, planned=None):
    return next(f for f in judge([evidence], POLICY, null, planned) if f.id == "LA-IDENTITY-001")


def test_a_couple_is_two_people_and_not_one_consistent_person() -> None:
    for people in (COUPLE, FEWER):
        finding = of_001(seen(people))
        assert finding.severity is Severity.HIGH
        assert "Several people" in finding.title and "one" not in finding.summary.split()
        assert finding.numbers["people"] == 2
    assert "2 people, in 8, 8 of 16 pictures" in of_001(seen(COUPLE)).detail
    assert "2 people, in 6, 6 of 16 pictures" in of_001(seen(FEWER)).detail


def test_one_person_is_one_and_told_as_ever() -> None:
    finding = of_001(seen(["a"] * 12 + list("wxyz")))
    assert finding.numbers["people"] == 1
    assert "people" not in finding.detail and "One consistent person" in finding.title


def test_two_in_two_fifths_each_are_never_nobody() -> None:
    """Six and six of sixteen: a quarter of all pairs, a half of those that may be one person's."""
    finding = of_001(seen(FEWER))
    assert (finding.numbers["k"], finding.numbers["n"]) == (30, 60)
    for null in (Null((8, 16), (0.0,) * 199), Null((8, 16), (0.0,) * 185 + (0.9,) * 14)):
        assert of_001(seen(FEWER), null).severity > Severity.INCONCLUSIVE
    assert of_001(seen(FEWER), Null((8, 16), (0.9,) * 199)).severity is Severity.INCONCLUSIVE


def test_a_control_of_two_people_is_judged_the_same_way() -> None:
    for control in ("base", "scrambled"):
        finding = of_001(seen(FEWER, **{control: list("ccccccddddddstuv")}))
        assert finding.numbers[f"{control}_value"] == 0.5
        assert finding.severity is Severity.INCONCLUSIVE
    # Beside one person, controls are judged by all their pairs.
    alone = of_001(seen(["a"] * 16, base=list("ccccccddddddstuv")))
    assert alone.numbers["base_value"] == 30 / 120


def photos_of(people, name):
    cosines = tuple(SAME if who == name else OTHER for who in people)
    return strangers_to(people, cosines, 0.0)


def test_each_person_is_compared_with_the_photos() -> None:
    people = list("aaaaaaaaaabbbbbb")
    evidence = photos_of(people, "b")
    findings = judge([evidence], POLICY)
    first, second = returned(findings, [evidence])
    assert (first.pictures, second.pictures, first.n) == (10, 6, 16)
    assert (first.accepted, second.accepted) == (0, 6)
    assert second.cosine > 0.8 > 0.2 > first.cosine
    bare = seen(people)
    assert [one.accepted for one in returned(judge([bare]), [bare])] == [None, None]


def test_nobody_is_listed_where_nothing_was_shown() -> None:
    for evidence in (seen([f"p{i}" for i in range(16)]), seen(COUPLE, base=COUPLE)):
        findings = judge([evidence], POLICY)
        assert max(f.severity for f in findings) <= Severity.INCONCLUSIVE
        assert returned(findings, [evidence]) == ()


@pytest.fixture
def report() -> Report:
    evidence = photos_of(list("aaaaaaaaaabbbbbb"), "b")
    findings = judge([evidence], POLICY)
    return Report("0", Target("a", family="sd"), findings, people=returned(findings, [evidence]))


def test_every_format_tells_of_both(report) -> None:
    for name in ("text", "html", "markdown"):
        told = " ".join(FORMATS[name]([report]).replace("\\", "").split())
        assert "Person 1" in told and "in 10 of 16 pictures" in told
        assert "Person 2" in told and "in 6 of 16 pictures" in told


def test_json_holds_them_and_reads_them_back(report) -> None:
    text = FORMATS["json"]([report])
    assert [person["pictures"] for person in json.loads(text)["people"]] == [10, 6]
    (again,) = load_reports(text.encode())
    assert FORMATS["json"]([again]) == text
    assert [(one.pictures, one.n, one.accepted) for one in again.people] == [(10, 16, 0), (6, 16, 6)]
    assert [step.number for step in again.findings[0].lower] == [
        step.number for step in report.findings[0].lower
    ]

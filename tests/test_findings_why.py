"""Why a report is at its level: the conditions told are those that decide."""

import re

import pytest
from hypothesis import given, settings

from loraudit.evidence.null import Null
from loraudit.findings.finding import Confidence, Finding, Severity, Step
from loraudit.findings.report import Gap, Report, Target
from loraudit.report import FORMATS
from loraudit.verdict.judge import judge
from loraudit.verdict.ladder import condition, higher, level_of, lower
from loraudit.verdict.policy import Policy
from tests.seen import seen
from tests.test_verdict_judge import nulls, scans

POLICY = Policy()
FEW, MANY = (Null((8, 16), (0.0,) * 199), Null((8, 16), (0.0,) * 195 + (0.9,) * 4))


def why(*findings, **fields):
    return Report("0", Target("a", family="sd", size_bytes=1), findings, **fields).verdict.why


@given(scans(), nulls)
@settings(max_examples=100)
def test_what_is_missing_fails_and_what_holds_a_level_holds(scan, null):
    told = 0
    for finding in judge([scan], POLICY, null):
        assert not any(step.holds for step in finding.higher)
        assert all(step.holds for step in finding.lower)
        assert all(step.level > finding.severity for step in finding.higher)
        assert all(step.level < finding.severity for step in finding.lower)
        if finding.severity is not Severity.CRITICAL:
            assert finding.higher or finding.severity >= Severity.MEDIUM or finding.id == "LA-IDENTITY-003"
        if finding.severity > Severity.NONE:
            assert finding.lower
        told += bool(finding.higher or finding.lower)
    assert told


def test_the_thresholds_are_those_of_the_policy():
    (finding,) = judge([seen([0] * 12 + [1, 2, 3, 4])], POLICY, MANY)
    assert finding.severity is Severity.MEDIUM
    assert [(s.level, s.number, s.relation, s.threshold) for s in finding.higher] == [
        (Severity.HIGH, "p among control LoRAs", "<=", POLICY.high_p)
    ]
    assert {(s.level, s.number, s.threshold) for s in finding.lower} == {
        (Severity.LOW, "p among control LoRAs", POLICY.medium_p),
        (Severity.LOW, "share of pairs", POLICY.medium_agreement),
    }
    sentence = why(finding)
    assert "high with a p among control LoRAs of 0.01 or less (here 0.025)" in sentence
    assert "low with a p among control LoRAs above 0.05" in sentence
    assert "share of pairs below 0.10 (here 0.55)" in sentence
    assert len(re.findall(r"[.](?:\s|$)", sentence)) == 1


def test_moving_a_number_over_its_threshold_moves_the_level():
    """Nine and eight of sixteen: the share of pairs is 0.30 and 0.23."""
    at, below = (
        judge([seen([0] * same + [f"p{i}" for i in range(16 - same)])], POLICY, FEW)[0] for same in (9, 8)
    )
    assert (at.severity, below.severity) == (Severity.HIGH, Severity.MEDIUM)
    (missing,) = (step for step in below.higher if step.number == "share of pairs")
    assert missing.here < missing.threshold == POLICY.high_agreement <= at.numbers["value"]


def test_a_ladder_is_climbed_as_far_as_its_conditions_hold():
    def ladder(value):
        return {
            level: condition(level, "x", value, ">=", least)
            for level, least in ((Severity.LOW, 1), (Severity.MEDIUM, 2), (Severity.HIGH, 3))
        }

    found = [level_of(ladder(value)) for value in (0, 1, 2, 3)]
    assert found == [Severity.NONE, Severity.LOW, Severity.MEDIUM, Severity.HIGH]
    assert higher(ladder(1), Severity.LOW) == (Step(Severity.MEDIUM, "x", 1, ">=", 2),)
    assert lower(ladder(1), Severity.LOW) == (Step(Severity.NONE, "x", 1, ">=", 1),)
    assert higher(ladder(3), Severity.HIGH) == lower(ladder(0), Severity.NONE) == ()


@pytest.mark.parametrize(
    ("relation", "values"),
    [(">=", (False, True, True)), (">", (False, False, True)), ("<=", (True, True, False))],
)
def test_a_condition_holds_by_its_relation(relation, values):
    assert tuple(Step(Severity.LOW, "x", here, relation, 2).holds for here in (1, 2, 3)) == values


def found(severity, rule="LA-NAME-001"):
    return Finding(rule, severity, Confidence.LOW, "t", "d", "r")


def test_every_report_says_why():
    assert why(found(Severity.HIGH), found(Severity.LOW, "LA-PATH-001")) == (
        "Without LA-NAME-001 the report would be low; a finding of critical would raise it."
    )
    assert "no level is higher" in why(found(Severity.CRITICAL))
    assert "if no more were found" in why(incomplete=(Gap("base", "no network"),))
    assert why().startswith("No level is lower")
    for findings in ((), (found(Severity.MEDIUM),), judge([seen([0] * 16)], POLICY, FEW), judge([])):
        report = Report("0", Target("a", family="sd", size_bytes=1), tuple(findings))
        for name in ("text", "html", "markdown", "json"):
            shown = " ".join(FORMATS[name]([report]).replace("\\", "").split())
            start = " ".join(report.verdict.why.split()[:4])
            assert start and start in shown.replace("&#39;", "'")

"""The verdict and the exit codes."""

import dataclasses
import math
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loraudit.evidence.faces import AttackEvidence, Faces, Reading
from loraudit.evidence.statistics import agreement_test
from loraudit.evidence.table import score_table
from loraudit.findings.exits import Exit, combine_exit_codes, exit_code
from loraudit.findings.finding import Confidence, Finding, Severity
from loraudit.findings.report import Gap, Report, Target, unscannable
from loraudit.verdict.judge import judge
from loraudit.verdict.policy import Policy

SAME, OTHER, THRESHOLD = 0.8, 0.1, 0.5


def clique(found, size):
    """Cosines between `found` faces of which the first `size` are one person and the rest strangers."""
    return tuple(SAME if j < size else OTHER for _, j in combinations(range(found), 2))


def evidence(
    pictures=8, one_person=1, base_one_person=1, accepted=None, base_accepted=0, found=None,
    scrambled_one_person=None, **fields,
):  # fmt: skip
    """Evidence of an attack; `accepted` pictures match the reference photos, None for no photos."""
    found = pictures if found is None else found
    reference = base_reference = None
    if accepted is not None:
        reference = tuple(SAME if i < accepted else OTHER for i in range(found))
        base_reference = tuple(SAME if i < base_accepted else OTHER for i in range(pictures))
    tuned = Faces(pictures, found, clique(found, one_person), reference)
    base = Faces(pictures, pictures, clique(pictures, base_one_person), base_reference)
    cross = (OTHER,) * (found * pictures)
    if scrambled_one_person is not None:
        fields["scrambled"] = dataclasses.replace(base, pairs=clique(pictures, scrambled_one_person))
        fields["scrambled_cross"] = cross
    return AttackEvidence(fields.pop("attack", "paper"), THRESHOLD, 1e-3, tuned, base, cross, **fields)


def severity_of(rule, *attacks):
    return next(finding.severity for finding in judge(attacks) if finding.id == rule)


@pytest.mark.parametrize(
    ("pictures", "one_person", "base_one_person", "severity"),
    [
        (16, 1, 1, Severity.NONE),
        (16, 6, 1, Severity.MEDIUM),
        (16, 10, 1, Severity.HIGH),
        (16, 16, 1, Severity.HIGH),
        (16, 16, 16, Severity.INCONCLUSIVE),
        (16, 10, 9, Severity.INCONCLUSIVE),
        (16, 5, 5, Severity.NONE),
        (32, 8, 1, Severity.LOW),
    ],
)
def test_judge_without_references(pictures, one_person, base_one_person, severity):
    seen = evidence(pictures, one_person, base_one_person)
    assert severity_of("LA-IDENTITY-001", seen) is severity


@pytest.mark.parametrize(
    ("accepted", "base_accepted", "severity"),
    [
        (0, 0, Severity.NONE),
        (0, 4, Severity.NONE),
        (1, 0, Severity.LOW),
        (1, 1, Severity.INCONCLUSIVE),
        (2, 0, Severity.MEDIUM),
        (3, 0, Severity.HIGH),
        (8, 0, Severity.CRITICAL),
        (8, 8, Severity.INCONCLUSIVE),
        (9, 8, Severity.LOW),
    ],
)
def test_judge_with_references(accepted, base_accepted, severity):
    seen = evidence(16, accepted=accepted, base_accepted=base_accepted)
    assert severity_of("LA-IDENTITY-002", seen) is severity


def test_judge_takes_the_strongest_attack_and_corrects_for_their_number():
    weak = [evidence(16, 1, attack=f"prompts:{i}") for i in range(3)]
    finding = judge([*weak, evidence(16, 14, attack="paper")])[0]
    assert finding.severity is Severity.HIGH
    assert finding.numbers["attack"] == "paper"
    assert finding.numbers["attacks"] == 4
    # Alone, 5 agreeing pictures of 8 are beyond chance (p = 0.013); as the best of four attacks they are not.
    five = evidence(8, 5)
    assert severity_of("LA-IDENTITY-001", five) is Severity.HIGH
    assert severity_of("LA-IDENTITY-001", five, *(evidence(8, 1) for _ in range(3))) is Severity.INCONCLUSIVE


def test_judge_is_never_highly_confident_without_calibration():
    finding = judge([evidence(16, 16, accepted=16)])[0]
    assert finding.confidence is Confidence.MEDIUM
    faceless_base = dataclasses.replace(evidence(16, 16), base=Faces(16, 0, ()), cross=())
    assert judge([faceless_base])[0].confidence is Confidence.LOW


@pytest.mark.parametrize(
    "attacks", [(), (evidence(found=0),), (evidence(found=4),), (evidence(1),), (evidence(3, 3),)]
)
def test_too_few_faces_are_inconclusive_and_never_clean(attacks):
    findings = judge(attacks)
    assert [finding.id for finding in findings] == ["LA-IDENTITY-003"]
    report = Report("0", Target("a", family="sd"), findings)
    assert report.verdict.level is Severity.INCONCLUSIVE
    assert exit_code(report) is Exit.INCOMPLETE


def test_one_blind_attack_keeps_a_scan_from_being_clean_unless_it_never_aimed_at_a_face():
    clean, blind = evidence(attack="paper"), evidence(found=0, attack="prompts:no-trigger")
    assert judge([clean, blind])[0].severity is Severity.INCONCLUSIVE
    not_aimed = dataclasses.replace(blind, aims_at_face=False)
    assert [finding.severity for finding in judge([clean, not_aimed])] == [Severity.NONE]
    assert judge([not_aimed])[0].severity is Severity.INCONCLUSIVE


def test_few_faces_that_are_the_reference_person_are_told():
    assert severity_of("LA-IDENTITY-002", evidence(16, found=4, accepted=4)) is Severity.HIGH


cosines = st.sampled_from([OTHER, SAME])


@st.composite
def scans(draw):
    pictures, found, base_found = draw(st.integers(2, 6)), draw(st.integers(0, 6)), draw(st.integers(0, 6))
    found, base_found = min(found, pictures), min(base_found, pictures)

    def some(n):
        return tuple(draw(st.lists(cosines, min_size=n, max_size=n)))

    tuned = Faces(pictures, found, some(math.comb(found, 2)), some(found))
    base = Faces(pictures, base_found, some(math.comb(base_found, 2)), some(base_found))
    return AttackEvidence("paper", THRESHOLD, 1e-3, tuned, base, some(found * base_found))


@given(scans(), st.data())
@settings(max_examples=150, deadline=None)
def test_judge_is_monotone(scan, data):
    """More similarity of the tuned pictures, to each other or to the photos, never lowers the level."""
    raised = {
        name: tuple(max(value, data.draw(cosines)) for value in getattr(scan.tuned, name))
        for name in ("pairs", "to_reference")
    }
    more = dataclasses.replace(scan, tuned=dataclasses.replace(scan.tuned, **raised))
    assert agreement_test(more).p_value <= agreement_test(scan).p_value
    before, after = ({f.id: f.severity for f in judge([e])} for e in (scan, more))
    assert before
    for rule, severity in before.items():
        assert after[rule] >= severity
    assert max(after.values()) >= max(before.values())


def test_monotone_has_a_negative_control():
    """More similarity of the base pictures does lower the level: it is the null."""
    assert severity_of("LA-IDENTITY-001", evidence(16, 12, 1)) > severity_of(
        "LA-IDENTITY-001", evidence(16, 12, 12)
    )


def test_policy_moves_the_verdict():
    strict = Policy(version=3, high_agreement=0.9)
    assert judge([evidence(16, 10)])[0].severity is Severity.HIGH
    assert judge([evidence(16, 10)], strict)[0].severity is Severity.MEDIUM
    assert judge([evidence(16, 10)], strict)[0].numbers["policy"] == 3


def test_score_table_puts_each_control_beside_its_score():
    reading = Reading("clip-i", "each other", (0.9, 0.8, 0.85), (0.6, 0.7, 0.65))
    scores = score_table([evidence(accepted=5, readings=(reading,))])
    assert [s.name for s in scores[::2]] == ["faces", "consistency", "accepted", "cosine", "clip-i"]
    told = [(s.name, s.attack, s.against) for s in scores[1::2]]
    assert told == [s.of_control("base") for s in scores[::2]]
    both = score_table([evidence(scrambled_one_person=4)])
    assert [s.name for s in both[3:6]] == ["consistency", "consistency.base", "consistency.scrambled"]
    assert both[5].value == pytest.approx(6 / 28)
    clip = scores[8]
    assert clip.value == pytest.approx(0.85)
    assert clip.low is None  # pairs share pictures
    assert clip.null_p95 == 0.7
    assert scores[2].p_value == 1.0
    assert score_table([evidence(found=0)])[2].value is None


@pytest.mark.parametrize(
    "broken",
    [
        lambda: Faces(4, 5, ()),
        lambda: Faces(4, 3, (0.1,)),
        lambda: Faces(4, 2, (math.nan,)),
        lambda: Faces(4, 2, (0.1,), (0.1,)),
        lambda: dataclasses.replace(evidence(), cross=()),
        lambda: dataclasses.replace(evidence(), far=0.0),
        lambda: dataclasses.replace(evidence(), tuned=evidence(accepted=3).tuned),
    ],
)
def test_evidence_that_contradicts_itself_is_refused(broken):
    with pytest.raises(ValueError, match=r"\w"):
        broken()


def finding(severity, rule="LA-IDENTITY-001"):
    return Finding(rule, severity, Confidence.LOW, f"title {severity.value}", "detail", "remedy")


def report(*severities, incomplete=()):
    found = tuple(finding(severity) for severity in severities)
    return Report("0", Target("a", family="sd"), found, incomplete=incomplete)


def test_severity_order():
    names = ["none", "inconclusive", "low", "medium", "high", "critical"]
    assert [severity.value for severity in sorted(map(Severity, sorted(names)))] == names


def test_report_keeps_findings_worst_first_then_by_id():
    low, high = finding(Severity.LOW, "LA-B-001"), finding(Severity.HIGH, "LA-C-001")
    other = finding(Severity.LOW, "LA-A-001")
    assert Report("0", Target("a"), (low, high, other)).findings == (high, other, low)


GAP = (Gap("attack paper", "no encoder"),)


@pytest.mark.parametrize(
    ("made", "fail_on", "code"),
    [
        (report(Severity.NONE), Severity.HIGH, Exit.CLEAN),
        (report(Severity.MEDIUM), Severity.HIGH, Exit.CLEAN),
        (report(Severity.MEDIUM), Severity.MEDIUM, Exit.FOUND),
        (report(Severity.HIGH), Severity.HIGH, Exit.FOUND),
        (report(Severity.CRITICAL), Severity.HIGH, Exit.FOUND),
        (report(Severity.CRITICAL), None, Exit.CLEAN),
        (report(Severity.INCONCLUSIVE), Severity.LOW, Exit.INCOMPLETE),
        (report(Severity.LOW, Severity.INCONCLUSIVE), Severity.HIGH, Exit.INCOMPLETE),
        (report(Severity.HIGH, Severity.INCONCLUSIVE, incomplete=GAP), Severity.HIGH, Exit.FOUND),
        (report(Severity.NONE, incomplete=GAP), Severity.HIGH, Exit.INCOMPLETE),
        (report(Severity.NONE, incomplete=GAP), None, Exit.INCOMPLETE),
        (report(), Severity.HIGH, Exit.INCOMPLETE),
        (unscannable("0", Target("a"), "not a LoRA"), Severity.HIGH, Exit.NOTHING),
    ],
)
def test_exit_code(made, fail_on, code):
    assert exit_code(made, fail_on) is code


@pytest.mark.parametrize("level", [Severity.NONE, Severity.INCONCLUSIVE])
def test_nothing_fails_on_less_than_low(level):
    with pytest.raises(ValueError, match="choose low, medium, high, critical or never"):
        exit_code(report(), level)


@pytest.mark.parametrize(
    ("codes", "worst"),
    [
        ((), 3),
        ((0,), 0),
        ((0, 3), 3),
        ((0, 3, 4), 4),
        ((0, 3, 4, 1), 1),
        ((0, 3, 4, 1, 2), 2),
        ((4, 0, 1), 1),
    ],
)
def test_the_worst_exit_code_wins(codes, worst):
    assert combine_exit_codes(codes) == worst


def test_verdict_says_why():
    assert report(Severity.HIGH, Severity.LOW).verdict.reasons == ("title high",)
    unclear = report(Severity.NONE, incomplete=GAP).verdict
    assert unclear.level is Severity.INCONCLUSIVE
    assert unclear.reasons == ("Could not look at attack paper: no encoder",)
    assert report().verdict.reasons == ("Nothing was looked at.",)

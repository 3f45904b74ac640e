"""Statistics, the verdict and the exit codes."""

import dataclasses
import math
import random
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loraudit.findings import (
    AttackEvidence,
    Confidence,
    Exit,
    Faces,
    Finding,
    Gap,
    Policy,
    Reading,
    Report,
    Severity,
    Share,
    Target,
    accepted_share,
    accepted_test,
    agreement_share,
    agreement_test,
    combine_exit_codes,
    exit_code,
    judge,
    mean_interval,
    score_table,
    unscannable,
    wilson_interval,
)

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


def test_wilson_interval_known_values():
    # Newcombe (1998), Statistics in Medicine 17, table I: method 3 (score), 81/263, 15/148, 0/20.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson_interval(20, 20)[1] == 1.0
    assert wilson_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("k", "n"), [(-1, 4), (5, 4), (1, 0)])
def test_wilson_interval_refuses_what_is_no_share(k, n):
    with pytest.raises(ValueError, match="not a share"):
        wilson_interval(k, n)


def test_mean_interval_is_students():
    values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    low, high = mean_interval(values)
    half = 2.3646 * math.sqrt(6.0) / math.sqrt(8)  # t quantile of 7 degrees of freedom
    assert (low, high) == pytest.approx((4.5 - half, 4.5 + half), abs=5e-3)
    assert mean_interval(values[:2]) is None


def test_agreement_interval_does_not_take_pairs_for_independent():
    share = agreement_share(evidence(pictures=16, one_person=12).tuned, THRESHOLD)
    assert (share.k, share.n) == (66, 120)
    assert (share.low, share.high) == pytest.approx(wilson_interval(0.55 * 8, 8))
    independent = wilson_interval(66, 120)
    assert share.high - share.low > 2 * (independent[1] - independent[0])


def test_agreement_interval_covers():
    """Pictures show one person or a stranger, half and half, so a quarter of pairs match."""
    rng, covered, runs = random.Random(7), 0, 400
    for _ in range(runs):
        people = sum(rng.random() < 0.5 for _ in range(16))
        share = agreement_share(Faces(16, 16, clique(16, people)), THRESHOLD)
        covered += share.low <= 0.25 <= share.high
    assert covered / runs >= 0.95


def test_agreement_p_value_is_exact():
    # Only the observed choice of 8 out of 16 puts all eight matching pictures on one side.
    assert agreement_test(evidence(one_person=8)).p_value == 1 / math.comb(16, 8)
    # Six of eight: the other two tuned places may go to any of the ten pictures that match nothing.
    assert agreement_test(evidence(one_person=6)).p_value == math.comb(10, 2) / math.comb(16, 8)
    assert agreement_test(evidence(one_person=8, base_one_person=8)).p_value > 0.5
    assert agreement_test(evidence(one_person=1)).p_value == 1.0


def test_agreement_p_value_is_sampled_the_same_each_time():
    first = agreement_test.__wrapped__(evidence(pictures=16, one_person=8))
    assert first == agreement_test.__wrapped__(evidence(pictures=16, one_person=8))
    assert 1e-4 <= first.p_value < 0.01


def test_agreement_p_value_holds_its_level():
    """Tuned and base pictures from one and the same mixture of three people."""
    rng, small, runs = random.Random(3), 0, 120
    for _ in range(runs):
        people = [rng.randrange(3) for _ in range(12)]
        match = [[SAME if a == b else OTHER for b in people] for a in people]
        tuned, base = (tuple(match[i][j] for i, j in combinations(r, 2)) for r in (range(6), range(6, 12)))
        cross = tuple(match[i][j] for i in range(6) for j in range(6, 12))
        same = AttackEvidence("paper", THRESHOLD, 1e-3, Faces(6, 6, tuned), Faces(6, 6, base), cross)
        small += agreement_test(same).p_value <= 0.05
    assert small / runs <= 0.10


def test_accepted_test_is_fishers():
    def share(k, n):
        return Share(k, n, 0.0, 1.0)

    # Fisher's tea: 3 of 4 against 1 of 4.
    assert accepted_test(share(3, 4), share(1, 4)).p_value == pytest.approx(17 / 70)
    assert accepted_test(share(8, 8), share(0, 8)).p_value == pytest.approx(1 / math.comb(16, 8))
    assert accepted_test(share(0, 8), share(0, 8)).p_value == 1.0


def test_accepted_counts_a_picture_without_a_face_as_not_accepted():
    share = accepted_share(evidence(found=6, accepted=6).tuned, THRESHOLD)
    assert (share.k, share.n) == (6, 8)
    assert accepted_share(evidence().tuned, THRESHOLD) is None


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

"""Conformal p-values, and when a scan may stop early."""

import dataclasses
import random
from itertools import combinations
from statistics import median

import pytest

from loraudit.findings import (
    AttackEvidence,
    Confidence,
    Exit,
    Faces,
    Null,
    Policy,
    Report,
    Severity,
    Target,
    agreement_score,
    conformal_p,
    enough,
    exit_code,
    judge,
    looks,
    settled,
)
from loraudit.report import FORMATS

SAME, OTHER, THRESHOLD = 0.8, 0.1, 0.5
POLICY = Policy()
ATTACKS = 5


def of_people(people):
    """Faces of pictures that show these people; None: no face."""
    where = tuple(i for i, who in enumerate(people) if who is not None)
    pairs = tuple(SAME if people[i] == people[j] else OTHER for i, j in combinations(where, 2))
    return Faces(len(people), len(where), pairs, None, where)


def seen(people, n=None, base=None, scrambled=None):
    """Evidence of the first `n` pictures; the controls show strangers unless told."""
    n = n or len(people)
    strangers = [f"s{i}" for i in range(len(people))]
    tuned, plain, other = (of_people(who[:n]) for who in (people, base or strangers, scrambled or strangers))
    cross = [(OTHER,) * (tuned.found * faces.found) for faces in (plain, other)]
    return AttackEvidence(
        "a", THRESHOLD, 1e-3, tuned, plain, cross[0], scrambled=other, scrambled_cross=cross[1]
    )


def leaking(share, most, rng):
    return [0 if rng.random() < share else f"p{i:02d}" for i in range(most)]


def test_p_values_of_exchangeable_controls_are_uniform_and_of_others_are_not() -> None:
    rng, n, runs = random.Random(0), 199, 2000
    drawn = [[rng.gauss(0, 1) for _ in range(n + 1)] for _ in range(runs)]

    def distance(shift):
        p = sorted(conformal_p(scores[0] + shift, scores[1:]) for scores in drawn)
        return max(abs((i + 1) / runs - value) for i, value in enumerate(p))

    assert distance(0) < 1.63 / runs**0.5  # Kolmogorov-Smirnov, 1 %
    assert distance(0.3) > 2 * 1.63 / runs**0.5


def test_the_best_of_all_attacks_at_any_look_keeps_its_level() -> None:
    """Controls at the maximum over attacks and looks; a file that is one more control, stopped at will."""
    rng, small, runs = random.Random(1), {0.01: 0, 0.05: 0, 0.1: 0}, 300

    def shares():
        people = [[rng.randrange(6) for _ in range(16)] for _ in range(3)]
        return [[agreement_score(of_people(who), THRESHOLD, (n,)) for n in (8, 12, 16)] for who in people]

    controls = tuple(max(max(row) for row in shares()) for _ in range(199))
    for _ in range(runs):
        # The worst there is: every attack is stopped where it looks most like a leak.
        p = conformal_p(max(max(row) for row in shares()), controls)
        for level in small:
            small[level] += p <= level
    assert all(count / runs <= level + 3 * (level / runs) ** 0.5 for level, count in small.items())


def test_a_picture_without_a_face_matches_none_and_the_last_look_counts() -> None:
    faces = of_people([0, None, 0, None, 1, 0, 0, 0])
    assert agreement_score(faces, THRESHOLD, (4,)) == 1 / 6
    assert agreement_score(faces, THRESHOLD, (4, 8, 12)) == 10 / 28
    assert agreement_score(faces, THRESHOLD, (12,)) == 0
    assert faces.first(4) == Faces(4, 2, (SAME,), None, (0, 2))
    assert faces.first(99) == faces
    with pytest.raises(ValueError, match="cannot be"):
        Faces(2, 1, (), None, (2,))


@pytest.mark.parametrize(
    ("controls", "severity", "confidence"),
    [
        ((0.0,) * 199, Severity.HIGH, Confidence.HIGH),
        ((0.0,) * 195 + (0.9,) * 4, Severity.MEDIUM, Confidence.MEDIUM),
        ((0.0,) * 185 + (0.9,) * 14, Severity.LOW, Confidence.MEDIUM),
        ((0.9,) * 199, Severity.INCONCLUSIVE, Confidence.LOW),
    ],
)
def test_the_calibrated_level_falls_with_the_p_value(controls, severity, confidence) -> None:
    evidence = seen([0] * 12 + [1, 2, 3, 4])
    (finding,) = judge([evidence], POLICY, Null((8, 12, 16), controls))
    assert (finding.severity, finding.confidence) == (severity, confidence)
    assert f"of {len(controls)} control LoRAs" in finding.detail
    assert "calibrated_p" in finding.numbers
    (bare,) = judge([evidence])
    assert bare.confidence is not Confidence.HIGH
    assert "No calibration data" in bare.detail


def test_one_face_of_several_loras_merged_is_inconclusive() -> None:
    agreed = seen([0] * 16)
    for one_person, severity in ((1.0, Severity.HIGH), (0.02, Severity.HIGH), (0.01, Severity.INCONCLUSIVE)):
        null = Null((8, 16), (0.0,) * 199, one_person=one_person)
        (finding,) = judge([agreed], POLICY, null)
        assert finding.severity is severity
        assert ("several LoRAs merged" in finding.title) is (severity is Severity.INCONCLUSIVE)
        assert ("before they are merged" in finding.remedy) is (severity is Severity.INCONCLUSIVE)
        assert finding.numbers.get("one_person_p") == (None if severity is Severity.HIGH else 0.01)
    (clean,) = judge([seen(list(range(16)))], POLICY, Null((8, 16), (0.0,) * 199, one_person=0.01))
    assert clean.severity is Severity.NONE


def test_what_is_high_early_stays_above_the_controls_of_the_whole_scan() -> None:
    """A control at 0.9 is beaten by eight of eight pictures, and by 16 only if 16 show one person."""
    eight = seen([0] * 8)
    assert settled(eight, 16, 1, POLICY, Null((8, 16), (0.0,) * 199))
    assert not settled(eight, 16, 1, POLICY, Null((8, 16), (0.0,) * 197 + (0.96,) * 2))


def test_controls_of_a_scan_that_disagree_are_inconclusive_in_every_format() -> None:
    agreed = [0] * 10 + list("abcdef")
    for null in (None, Null((8, 16), (0.0,) * 199)):
        (finding,) = judge([seen(agreed, scrambled=agreed)], POLICY, null)
        assert finding.severity is Severity.INCONCLUSIVE
        report = Report("0", Target("a", family="sd"), (finding,))
        assert exit_code(report) is Exit.INCOMPLETE
        for render in FORMATS.values():
            assert "The controls disagree" in render([report])
        assert judge([seen(agreed)], POLICY, null)[0].severity is Severity.HIGH


def test_references_are_compared_with_both_controls_and_other_peoples_loras() -> None:
    def accepted(tuned, scrambled):
        evidence = seen(list(range(16)))
        faces = [
            dataclasses.replace(faces, to_reference=tuple(SAME if i < k else OTHER for i in range(16)))
            for faces, k in ((evidence.tuned, tuned), (evidence.base, 0), (evidence.scrambled, scrambled))
        ]
        return dataclasses.replace(evidence, tuned=faces[0], base=faces[1], scrambled=faces[2])

    def level(evidence, null=None):
        return next(f for f in judge([evidence], POLICY, null) if f.id == "LA-IDENTITY-002")

    assert level(accepted(10, 0)).severity is Severity.CRITICAL
    assert level(accepted(10, 10)).severity is Severity.INCONCLUSIVE
    assert "controls disagree" in level(accepted(10, 10)).title
    strangers, look_alikes = (Null((16,), (0.0,) * 99, (share,) * 99) for share in (0.0, 0.9))
    assert level(accepted(10, 0), strangers).severity is Severity.CRITICAL
    assert level(accepted(10, 0), look_alikes).severity is Severity.INCONCLUSIVE


def test_looks_end_with_the_last_picture() -> None:
    assert looks(16) == (8, 12, 16)
    assert (looks(3), looks(8), looks(9)) == ((3,), (8,), (8, 9))


def simulated(people, null, early):
    """Level of a file whose attacks bring back `people`, and the pictures that it took."""
    evidence, pictures = [], 0
    for who in people:
        stops = looks(len(who)) if early else (len(who),)
        for n in stops:
            # Sorted, which changes no number of a look, so that equal evidence is tested once.
            one = dataclasses.replace(
                seen([0] * who[:n].count(0) + list(range(1, n - who[:n].count(0) + 1))),
                scrambled=None,
                scrambled_cross=(),
            )
            if early and n < len(who) and settled(one, len(who), ATTACKS, POLICY, null):
                break
        evidence.append(one)
        pictures += n
        if early and enough(evidence, ATTACKS, POLICY, null):
            break
    level = max(finding.severity for finding in judge(evidence, POLICY, null, ATTACKS))
    return level, pictures


@pytest.mark.parametrize("calibrated", [False, True])
def test_stopping_early_keeps_the_verdict_and_saves_half(calibrated) -> None:
    """300 files: half leak in one attack or more, in most of the pictures or in few."""
    rng = random.Random(5)
    null = Null((8, 12, 16), tuple(rng.choice((0.0, 1 / 28, 3 / 28, 0.15)) for _ in range(199)))
    same, spent = 0, []
    for number in range(300):
        most = rng.betavariate(2, 0.7) if number % 2 else 0.0
        people = [leaking(most * rng.uniform(0.5, 1), 16, rng) for _ in range(ATTACKS)]
        whole, _ = simulated(people, null if calibrated else None, early=False)
        level, pictures = simulated(people, null if calibrated else None, early=True)
        same += level is whole
        spent.append(pictures / (ATTACKS * 16))
    assert same >= 297
    assert median(spent) <= 0.5


def test_what_is_not_settled_goes_on() -> None:
    """The negative controls: too few faces, and an outcome that more pictures may well change."""
    assert settled(seen([0] * 8), 16, ATTACKS, POLICY)
    assert settled(seen(list(range(8))), 16, ATTACKS, POLICY)
    assert not settled(seen([0] * 4 + [None] * 4), 16, ATTACKS, POLICY)
    assert not settled(seen([0] * 4 + [1, 2, 3, 4]), 16, ATTACKS, POLICY)
    assert not settled(seen([0] * 8, scrambled=[0] * 8), 16, ATTACKS, POLICY)
    assert not settled(seen(list(range(8))), 32, 1, POLICY)


def test_an_attack_that_draws_no_face_stops_early() -> None:
    """None in 8 pictures will hardly become the five that a verdict needs; three may."""
    assert settled(seen([None] * 8), 16, ATTACKS, POLICY)
    assert settled(seen([None] * 11 + [0]), 16, ATTACKS, POLICY)
    assert not settled(seen([None] * 5 + [0, 1, 2]), 16, ATTACKS, POLICY)
    # With photos, one face that passes would be a finding; not where a level takes what few others reach.
    blind = strangers_to([None] * 8, (), 0.0)
    assert not settled(blind, 16, ATTACKS, POLICY)
    others = Null((8, 16), (0.0,) * 99, likeness=tuple(0.004 * i for i in range(99)))
    assert settled(blind, 16, ATTACKS, POLICY, others)
    assert not settled(strangers_to([None] * 5 + [0, 1, 2], (0.0,) * 3, 0.0), 16, ATTACKS, POLICY, others)
    assert not settled(dataclasses.replace(blind, aims_at_face=False), 16, ATTACKS, POLICY, others)


def strangers_to(who, cosines, control):
    """Evidence of `who`, whose faces have these cosines to the photos; the controls' have `control`."""
    whole = seen(who)
    controls = tuple(control for _ in range(whole.base.found))
    return dataclasses.replace(
        whole,
        tuned=dataclasses.replace(whole.tuned, to_reference=tuple(cosines)),
        base=dataclasses.replace(whole.base, to_reference=controls),
        scrambled=dataclasses.replace(whole.scrambled, to_reference=controls),
    )


def test_with_photos_an_attack_stops_early_where_nobody_resembles_them() -> None:
    far = (0.05, -0.1, 0.1, 0.0, 0.08, -0.06, 0.12, 0.02)
    apart = list(range(8))
    assert settled(strangers_to(apart, far, 0.0), 12, ATTACKS, POLICY)
    # One of them is near, the spread is wide, or they agree on somebody: more pictures may change it.
    assert not settled(strangers_to(apart, (*far[:7], 0.5), 0.0), 12, ATTACKS, POLICY)
    assert not settled(strangers_to([0] * 5 + [1, 2, 3], far, 0.0), 12, ATTACKS, POLICY)
    # Calibration data make a finding of a mean that the pictures so far nearly have.
    others = Null((8, 12), (0.0,) * 99, likeness=tuple(0.0005 * i for i in range(99)))
    assert not settled(strangers_to(apart, far, 0.0), 12, ATTACKS, POLICY, others)
    unlike = dataclasses.replace(others, likeness=tuple(0.2 + 0.001 * i for i in range(99)))
    assert settled(strangers_to(apart, far, 0.0), 12, ATTACKS, POLICY, unlike)


def test_a_person_found_early_stays_above_loras_of_other_people() -> None:
    """Eight of eight pictures pass; is it critical? Not where LoRAs of others reach that likeness, too."""
    close = strangers_to([0] * 8, (0.55, 0.62, 0.58, 0.66, 0.52, 0.6, 0.64, 0.56), 0.0)
    for highest, enough_seen in ((0.2, True), (0.57, False)):
        null = Null((8, 16), (0.0,) * 99, likeness=(0.0,) * 98 + (highest,))
        assert settled(close, 16, ATTACKS, POLICY, null) is enough_seen


def test_one_picture_that_passes_is_luck_where_others_can_be_compared() -> None:
    rare = Null((8, 16), (0.0,) * 99, likeness=(0.3,) * 99)
    for passing, severity in ((0, Severity.NONE), (1, Severity.NONE), (2, Severity.INCONCLUSIVE)):
        evidence = strangers_to(list(range(16)), (0.6,) * passing + (0.0,) * (16 - passing), 0.0)
        (finding,) = (one for one in judge([evidence], POLICY, rare) if one.id == "LA-IDENTITY-002")
        assert finding.severity is severity
        bare = next(one for one in judge([evidence]) if one.id == "LA-IDENTITY-002")
        assert (bare.severity > Severity.NONE) is (passing > 0)


def like(cosine, n=16):
    """Evidence of strangers to each other, all of this likeness to the photos; the controls of none."""
    whole = seen([f"p{i}" for i in range(n)])

    def to(faces, value):
        return dataclasses.replace(faces, to_reference=tuple(value + 0.001 * i for i in range(n)))

    return dataclasses.replace(
        whole, tuned=to(whole.tuned, cosine), base=to(whole.base, 0.0), scrambled=to(whole.scrambled, 0.0)
    )


def of_002(evidence, null):
    return next(f for f in judge([evidence], POLICY, null) if f.id == "LA-IDENTITY-002")


def test_a_likeness_that_no_picture_passes_is_told_where_others_can_be_compared() -> None:
    """Below the threshold, so that nothing is accepted: only calibration data make a finding of it."""
    others = Null((8, 12, 16), (0.0,) * 99, likeness=(*(0.001 * i for i in range(198)), 0.3))
    weak = like(0.35)
    assert of_002(weak, None).severity is Severity.NONE
    assert of_002(weak, others).severity is Severity.MEDIUM
    assert "resemble" in of_002(weak, others).title
    assert of_002(like(0.185), others).severity is Severity.LOW
    assert of_002(like(0.05), others).severity is Severity.NONE
    # As like as that are the base model's own pictures: it is nothing that the file adds.
    usual = dataclasses.replace(
        weak, base=dataclasses.replace(weak.base, to_reference=weak.tuned.to_reference)
    )
    assert of_002(usual, others).severity is Severity.NONE


def test_controls_that_disagree_matter_where_few_harmless_loras_reach_as_much() -> None:
    people = [0] * 7 + [f"p{i}" for i in range(9)]
    split = seen(people, scrambled=[0] * 7 + [f"q{i}" for i in range(9)])
    assert judge([split])[0].severity is Severity.INCONCLUSIVE
    rare, usual = Null((16,), (0.0,) * 99), Null((16,), (0.5,) * 99)
    assert judge([split], POLICY, rare)[0].severity is Severity.INCONCLUSIVE
    assert judge([split], POLICY, usual)[0].severity is Severity.NONE

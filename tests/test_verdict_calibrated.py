"""Conformal p-values, and levels that stand on them."""

import dataclasses
import random

import pytest

from loraudit.evidence.faces import Faces
from loraudit.evidence.null import Null, agreement_score, conformal_p
from loraudit.findings.exits import Exit, exit_code
from loraudit.findings.finding import Confidence, Severity
from loraudit.findings.report import Report, Target
from loraudit.report import FORMATS
from loraudit.verdict.judge import judge
from loraudit.verdict.policy import Policy
from tests.seen import OTHER, SAME, THRESHOLD, of_people, seen, strangers_to

POLICY = Policy()
ATTACKS = 5


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


def test_one_face_of_several_loras_merged_keeps_its_level_and_loses_confidence() -> None:
    agreed = seen([0] * 16)
    for one_person, blend in ((1.0, False), (0.02, False), (0.01, True), (0.0001, True)):
        null = Null((8, 16), (0.0,) * 199, one_person=one_person)
        (finding,) = judge([agreed], POLICY, null)
        assert finding.severity is Severity.HIGH
        assert finding.confidence is (Confidence.LOW if blend else Confidence.HIGH)
        assert ("several LoRAs merged" in finding.title) is blend
        assert ("before the merge" in finding.remedy) is blend
        assert "training photos" in finding.remedy
        assert finding.numbers.get("one_person_p") == (one_person if blend else None)
    (clean,) = judge([seen(list(range(16)))], POLICY, Null((8, 16), (0.0,) * 199, one_person=0.01))
    assert clean.severity is Severity.NONE and "merged" not in clean.title
    (doubt,) = judge([agreed], POLICY, Null((8, 16), (1.0,) * 199, one_person=0.01))
    assert doubt.severity is Severity.INCONCLUSIVE and "merged" not in doubt.title


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


def test_photos_are_asked_for_only_where_there_were_none() -> None:
    for faces in ([f"p{i}" for i in range(16)], ["p"] * 16):
        told = strangers_to(faces, (0.0,) * 16, 0.0)
        for evidence, asked in ((seen(faces), True), (told, False)):
            (finding,) = (one for one in judge([evidence]) if one.id == "LA-IDENTITY-001")
            assert ("--reference" in finding.remedy) is asked


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


def test_what_a_disturbance_reaches_as_well_is_open_only_where_it_would_be_high() -> None:
    rare, usual = Null((16,), (0.0,) * 99), Null((16,), (0.9,) * 99)
    for same, severity in ((7, Severity.NONE), (10, Severity.INCONCLUSIVE)):
        people = [0] * same + [f"p{i}" for i in range(16 - same)]
        split = seen(people, scrambled=[0] * same + [f"q{i}" for i in range(16 - same)])
        for null in (None, rare, usual):
            assert judge([split], POLICY, null)[0].severity is severity

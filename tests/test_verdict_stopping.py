"""A scan at the edge of each reason to stop early: the chance at which its answer turns."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

import loraudit.verdict.stopping as stopping
from loraudit.attacks.plan import looks
from loraudit.evidence.intervals import quantile, wilson_interval
from loraudit.evidence.null import Null
from loraudit.evidence.statistics import agreement_test
from loraudit.findings.finding import Severity
from loraudit.verdict.claims import agreement_claim
from loraudit.verdict.policy import Policy
from loraudit.verdict.stopping import enough, settled
from tests.seen import SAME, THRESHOLD, seen, strangers_to
from tests.test_verdict_stopping_chances import FAR, reach

POLICY = Policy()
LIKE = Null((8, 12), (0.0,) * 99, likeness=tuple(0.002 * i for i in range(99)))


def chance(monkeypatch, evidence, most, planned=1, null=None, futile=True):
    """The chance that `settled` holds against its bound: the bound at which its answer turns."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        monkeypatch.setattr(stopping, "ERROR", middle)
        if settled(evidence, most, planned, POLICY, null):
            high = middle
        else:
            low = middle
    assert 0 < low < 1, f"{'futile' if futile else 'found'}: settled at any bound, or at none"
    return high


def test_cosines_that_are_all_the_same_have_a_spread():
    assert stopping._mean_passes([0.2] * 8, 0.3, 8) < 1e-6
    assert stopping._mean_passes([0.2] * 8, 0.1, 8) > 1 - 1e-6
    assert stopping._mean_passes([0.2] * 8, 0.2, 8) == 0.5
    alike = dataclasses.replace(strangers_to(list(range(8)), (0.2,) * 8, 0.0), likeness_only=True)
    assert settled(alike, 12, 1, POLICY)
    # So near the threshold that a spread of a millionth decides.
    near = dataclasses.replace(alike, tuned=dataclasses.replace(alike.tuned, to_reference=(0.5 - 1e-6,) * 8))
    assert not settled(near, 12, 1, POLICY)


def for_photos(cosines):
    return dataclasses.replace(strangers_to(list(range(len(cosines))), cosines, 0.0), likeness_only=True)


def one_passes(cosines):
    """Chance of one new cosine at the threshold or above: Student's t for a new observation."""
    n = len(cosines)
    scale = np.std(cosines, ddof=1) * math.sqrt(1 + 1 / n)
    return stats.t.sf(THRESHOLD, n - 1, np.mean(cosines), scale)


WIDE = (0.3, -0.2, 0.35, 0.0, 0.28, -0.16, 0.32, 0.1)


@pytest.mark.parametrize("most", [12, 16])
def test_without_calibration_one_picture_that_passes_would_be_a_finding(monkeypatch, most):
    expected = 1 - (1 - one_passes(WIDE)) ** (most - 8)
    assert chance(monkeypatch, for_photos(WIDE), most) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("first", [0.3, 0.6])
def test_with_calibration_two_would_or_a_mean_that_few_others_have(monkeypatch, first):
    cosines, more = (first, *WIDE[1:]), 6
    needed = 1 if first >= THRESHOLD else 2
    bar = quantile(LIKE.likeness, 1 - POLICY.medium_p)
    expected = stats.binom.sf(needed - 1, more, one_passes(cosines))
    expected += stopping._mean_passes(cosines, bar, more)
    evidence = for_photos(cosines)
    assert chance(monkeypatch, evidence, 8 + more, null=LIKE) == pytest.approx(expected, abs=1e-9)
    # Calibration data without the likeness are none for the photos.
    bare = dataclasses.replace(LIKE, likeness=())
    if needed == 2:
        assert chance(monkeypatch, evidence, 8 + more, null=bare) == chance(monkeypatch, evidence, 8 + more)


def test_a_cosine_at_the_threshold_has_passed(monkeypatch):
    at, below = (
        chance(monkeypatch, for_photos((first, *WIDE[1:])), 14, null=LIKE)
        for first in (THRESHOLD, THRESHOLD - 1e-9)
    )
    assert at > below + 0.01


def test_with_photos_both_questions_have_to_be_settled(monkeypatch):
    """Strangers to each other, of no likeness: as futile as the likelier of the two."""
    evidence = strangers_to(list(range(8)), FAR, 0.0)
    likeness = chance(monkeypatch, dataclasses.replace(evidence, likeness_only=True), 12)
    agreement = chance(monkeypatch, seen(list(range(8))), 12)
    assert chance(monkeypatch, evidence, 12) == pytest.approx(max(likeness, agreement))


def test_agreement_is_futile_where_the_fewest_are_hardly_reached(monkeypatch):
    claim = agreement_claim(seen([0, 0, *range(1, 7)]), POLICY, 5, None)
    for planned in (1, 5):
        expected = stopping._more(claim, 16, stopping._fewest(16, planned, POLICY, None))
        got = chance(monkeypatch, seen([0, 0, *range(1, 7)]), 16, planned)
        assert got == pytest.approx(expected)


@pytest.mark.parametrize("null", [None, Null((8, 16), (0.0,) * 199)])
def test_high_is_found_where_it_will_hardly_be_lost(monkeypatch, null):
    evidence = seen([0] * 7 + [1])
    claim = agreement_claim(evidence, POLICY, 1, null)
    assert claim.severity is Severity.HIGH
    stays = stopping._more(claim, 16, stopping._fewest_high(16, POLICY, null))
    assert chance(monkeypatch, evidence, 16, 1, null, futile=False) == pytest.approx(1 - stays)


def test_what_is_found_early_is_beyond_a_stricter_chance(monkeypatch):
    evidence = seen([0] * 7 + [1])
    p = agreement_test(evidence).p_value
    monkeypatch.setattr(stopping, "ERROR", 0.5)
    for planned in (1, 3):
        for alpha, found in ((p * planned, True), (p * planned - 1e-12, False)):
            monkeypatch.setattr(stopping, "EARLY_ALPHA", alpha)
            assert settled(evidence, 16, planned, POLICY) is found
            # Calibrated, the chance is of one attack.
            null = Null((8, 16), (0.0,) * 199)
            assert settled(evidence, 16, planned, POLICY, null) is (alpha >= p)


def test_less_than_high_is_not_found_early(monkeypatch):
    monkeypatch.setattr(stopping, "ERROR", 0.999)
    assert settled(seen([0] * 8), 16, 1, POLICY)
    some = Null((8, 16), (0.0,) * 193 + (1.0,) * 6)
    assert agreement_claim(seen([0] * 8), POLICY, 1, some).severity is Severity.MEDIUM
    assert not settled(seen([0] * 8), 16, 1, POLICY, some)


def test_too_few_faces_are_settled_where_enough_will_hardly_come(monkeypatch):
    few = seen([0, 1] + [None] * 6)
    assert chance(monkeypatch, few, 16) == pytest.approx(reach(2, 8, 8, 5), abs=1e-6)
    # Five are enough to ask the other question, four are not.
    four, five = (seen([f"p{i}" for i in range(n)] + [None] * (8 - n)) for n in (4, 5))
    assert chance(monkeypatch, four, 16) == pytest.approx(reach(4, 8, 8, 5), abs=1e-6)
    assert chance(monkeypatch, five, 16) < 0.5


@pytest.mark.parametrize(("highest", "needed"), [(0.1, 2), (0.12, 2), (0.13, 3), (0.9, 5)])
def test_with_photos_and_too_few_faces_as_many_as_a_finding_takes(monkeypatch, highest, needed):
    """No face adds more than a cosine of 1: a mean of 0.1 over 16 pictures takes two faces."""
    blind = strangers_to([0] + [None] * 7, (0.0,), 0.0)
    null = Null((8, 16), (0.0,) * 99, likeness=(0.0,) * 89 + (highest,) * 10)
    assert quantile(null.likeness, 1 - POLICY.low_p) == highest
    got = chance(monkeypatch, blind, 16, null=null)
    assert got == pytest.approx(reach(1, 8, 8, needed), abs=1e-6)


def test_with_photos_and_too_few_faces_nothing_else_is_settled():
    blind = strangers_to([None] * 8, (), 0.0)
    high = Null((8, 16), (0.0,) * 99, likeness=(0.9,) * 99)
    assert settled(blind, 16, 1, POLICY, high)
    assert not settled(blind, 16, 1, POLICY)
    assert not settled(blind, 16, 1, POLICY, dataclasses.replace(high, likeness=()))
    assert not settled(dataclasses.replace(blind, aims_at_face=False), 16, 1, POLICY, high)
    # Five faces are enough for the pictures to be judged by their likeness.
    for faces, done in ((4, False), (5, True)):
        who = [f"p{i}" for i in range(faces)] + [None] * (8 - faces)
        evidence = dataclasses.replace(strangers_to(who, FAR[:faces], 0.0), likeness_only=True)
        assert settled(evidence, 9, 1, POLICY) is done


CLOSE = (0.55, 0.62, 0.58, 0.66, 0.52, 0.6, 0.64, 0.56)


def test_critical_is_found_where_it_will_hardly_be_lost(monkeypatch):
    evidence = strangers_to([0] * 8, (*CLOSE[:7], 0.1), 0.0)
    lost = 1 - reach(7, 8, 16, 11)
    assert next(k for k in range(25) if wilson_interval(k, 24)[0] >= POLICY.critical_low) == 11
    assert chance(monkeypatch, evidence, 24, futile=False) == pytest.approx(lost, abs=1e-6)
    # And where the mean will hardly fall to the highest of other people's.
    null = Null((8, 24), (0.0,) * 99, likeness=(0.0,) * 98 + (0.45,))
    seen_cosines = [*CLOSE[:7], 0.1]
    falls = 1 - stopping._mean_passes(seen_cosines, 0.45, 16)
    got = chance(monkeypatch, evidence, 24, null=null, futile=False)
    assert got == pytest.approx(lost + falls, abs=1e-6)
    bare = dataclasses.replace(null, likeness=())
    assert chance(monkeypatch, evidence, 24, null=bare, futile=False) == pytest.approx(lost, abs=1e-6)


def test_critical_early_is_held_to_a_stricter_interval(monkeypatch):
    monkeypatch.setattr(stopping, "ERROR", 0.999)

    def done(passing, base=0, n=8, policy=POLICY):
        cosines = (SAME,) * passing + (0.0,) * (n - passing)
        evidence = strangers_to([0] * n, cosines, 0.0)
        control = (SAME,) * base + (0.0,) * (n - base)
        evidence = dataclasses.replace(
            evidence, base=dataclasses.replace(evidence.base, to_reference=control)
        )
        return settled(evidence, 16, 1, policy)

    low, _ = wilson_interval(8, 8, 1 - 2 * stopping.EARLY_ALPHA)
    assert low == pytest.approx(0.4558, abs=1e-3)
    assert done(8, policy=dataclasses.replace(POLICY, critical_low=low))
    assert not done(8, policy=dataclasses.replace(POLICY, critical_low=low + 1e-9))
    # Five of eight are critical at 95 %, and not at the strictness of an early look.
    assert [done(k) for k in (5, 6, 7, 8)] == [False, True, True, True]
    # Above the controls at that strictness, too: three of eight are below 0.456, four are not.
    assert [done(8, base) for base in (0, 3, 4)] == [True, True, False]
    assert not done(2), "high is not the highest with photos"


def test_critical_early_is_critical_among_other_people_too(monkeypatch):
    """Two of 99 others are as alike: medium, however surely the pictures pass."""
    monkeypatch.setattr(stopping, "ERROR", 0.999)
    evidence = strangers_to([0] * 8, CLOSE, 0.0)
    for others, done in ((0, True), (2, False)):
        null = Null((8, 16), (0.0,) * 99, likeness=(0.0,) * (99 - others) + (0.6,) * others)
        assert settled(evidence, 16, 1, POLICY, null) is done


def test_the_bounds_of_an_early_end():
    assert (stopping.ERROR, stopping.EARLY_ALPHA) == (0.05, 0.001)


def test_looks_are_four_apart_from_eight_on():
    assert looks(16) == (8, 12, 16) and looks(8) == (8,) and looks(7) == (7,)
    assert looks(17) == (8, 12, 16, 17) and looks(20) == (8, 12, 16, 20)


def test_the_highest_level_is_enough_and_a_lower_one_is_not():
    high, low = seen([0] * 8), seen(list(range(8)))
    assert enough([low, high], 2, POLICY) and not enough([low], 1, POLICY)
    medium = Null((8,), (0.0,) * 96 + (1.0,) * 3)
    assert not enough([high], 1, POLICY, medium)
    # With photos, a person among the pictures is not all that can be found.
    assert not enough([strangers_to([0] * 8, (0.0,) * 8, 0.0)], 1, POLICY)
    assert enough([strangers_to([0] * 8, CLOSE, 0.0)], 1, POLICY)
    # Of one attack out of many, chance leaves less.
    five = seen([0] * 5 + [1, 2, 3])
    assert enough([five], 1, POLICY) and not enough([five], 4, POLICY)

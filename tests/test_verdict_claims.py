"""Every threshold of the policy, from both sides: at it a level is reached, just beyond it is not."""

import dataclasses

import pytest

from loraudit.evidence.intervals import Comparison, Share
from loraudit.evidence.null import Null, conformal_p
from loraudit.evidence.statistics import agreement_test, likeness_test
from loraudit.findings.finding import Severity
from loraudit.verdict.claims import Claim, accepted_claim, agreement_claim, strongest
from loraudit.verdict.policy import Policy
from loraudit.verdict.rules import Doubt
from tests.seen import SAME, seen, strangers_to

POLICY = Policy()
NONE, OPEN, LOW, MEDIUM, HIGH, CRITICAL = Severity
BIT = 1e-9

FIVE = seen([0] * 5 + [1, 2, 3])
"""Ten of 28 pairs agree, none of either control; by chance as much comes about in 1.3 % of labellings."""
SHARE, CHANCE = 10 / 28, agreement_test(FIVE).p_value


def at(evidence, attacks=1, null=None, **thresholds):
    claim = agreement_claim(evidence, dataclasses.replace(POLICY, **thresholds), attacks, null)
    return claim.severity, claim.doubt


def test_the_share_decides_at_its_thresholds():
    assert at(FIVE, high_agreement=SHARE) == (HIGH, None)
    assert at(FIVE, high_agreement=SHARE + BIT) == (MEDIUM, None)
    more = {"high_agreement": 1.0}
    assert at(FIVE, medium_agreement=SHARE, **more) == (MEDIUM, None)
    more["medium_agreement"] = SHARE + BIT
    assert at(FIVE, **more) == (LOW, None)
    assert at(FIVE, low_agreement=SHARE, **more) == (LOW, None)
    assert at(FIVE, low_agreement=SHARE + BIT, **more) == (NONE, None)


def test_chance_decides_at_its_threshold_times_the_attacks():
    assert abs(CHANCE - 0.0128) < 1e-4
    for attacks in (1, 3):
        assert at(FIVE, attacks, alpha=CHANCE * attacks) == (HIGH, None)
        assert at(FIVE, attacks, alpha=CHANCE * attacks - BIT) == (OPEN, Doubt.BASE)
        # An agreement as high as that stays open, a lower one is none.
        less = {"alpha": CHANCE * attacks - BIT}
        assert at(FIVE, attacks, high_agreement=SHARE, **less) == (OPEN, Doubt.BASE)
        assert at(FIVE, attacks, high_agreement=SHARE + BIT, **less) == (NONE, None)


NULL = Null((8,), (0.0,) * 90 + (0.9,) * 9)
P = conformal_p(SHARE, NULL.agreement)


def test_the_place_among_controls_decides_at_its_thresholds():
    assert P == 0.1
    everything = {"high_p": P, "medium_p": P, "low_p": P}
    assert at(FIVE, null=NULL, **everything) == (HIGH, None)
    everything["high_p"] -= BIT
    assert at(FIVE, null=NULL, **everything) == (MEDIUM, None)
    everything["medium_p"] -= BIT
    assert at(FIVE, null=NULL, **everything) == (LOW, None)
    everything["low_p"] -= BIT
    assert at(FIVE, null=NULL, **everything) == (OPEN, Doubt.CONTROLS)
    assert at(FIVE, null=NULL, high_agreement=SHARE + BIT, **everything) == (NONE, None)


def test_with_calibration_the_chance_is_of_one_attack():
    null = Null((8,), (0.0,) * 99)
    assert at(FIVE, 100, null, alpha=CHANCE) == (HIGH, None)
    assert at(FIVE, 100, null, alpha=CHANCE - BIT) == (OPEN, Doubt.BASE)


@pytest.mark.parametrize(
    ("base", "scrambled", "doubt"),
    [(5, 0, Doubt.BASE), (0, 5, Doubt.SCRAMBLED), (5, 5, Doubt.BASE)],
)
def test_the_control_that_comes_as_close_is_named(base, scrambled, doubt):
    def of(count, name):
        return [name] * count + [f"{name}{i}" for i in range(8 - count)]

    split = seen([0] * 5 + [1, 2, 3], base=of(base, "b"), scrambled=of(scrambled, "s"))
    assert at(split) == (OPEN, doubt)
    # Below the share of a high level, a control that comes as close leaves nothing open.
    assert at(split, high_agreement=SHARE + BIT) == (NONE, None)
    for p in (P, P - BIT):
        assert at(split, null=NULL, low_p=p) == (OPEN, doubt)
        assert at(split, null=NULL, low_p=p, high_agreement=SHARE + BIT) == (NONE, None)


def test_beside_control_loras_the_range_has_to_lead_the_base_alone():
    """Five of eight pictures and three of a copy: beyond chance, but the range reaches down to the copy's."""
    copy = seen([0] * 7 + [1], scrambled=["s"] * 5 + ["t", "u", "v"])
    claim = agreement_claim(copy, POLICY, 1, None)
    assert claim.chance <= 0.05 and claim.share.low < claim.scrambled.value
    assert claim.severity is MEDIUM
    assert at(copy, null=Null((8,), (0.0,) * 99)) == (HIGH, None)
    plain = seen([0] * 7 + [1], base=["s"] * 5 + ["t", "u", "v"])
    assert at(plain) == at(plain, null=Null((8,), (0.0,) * 99)) == (MEDIUM, None)


def test_what_looks_like_several_loras_keeps_its_level_and_is_told_at_its_threshold():
    for one_person, blend in ((0.01, True), (0.01 + BIT, False)):
        claim = agreement_claim(FIVE, POLICY, 1, Null((8,), (0.0,) * 99, one_person=one_person))
        assert (claim.severity, claim.doubt, claim.blend) == (HIGH, None, blend)
    null = Null((8,), (0.0,) * 99, one_person=0.001)
    assert at(FIVE, null=null, high_agreement=1.0, medium_agreement=1.0) == (LOW, None)
    nobody = seen(list(range(8)))
    for evidence in (nobody, seen([0] * 5 + [1, 2, 3], base=[0] * 8)):
        assert not agreement_claim(evidence, POLICY, 1, null).blend


def passing(tuned, base=0, scrambled=0, n=8):
    """So many of `n` pictures of each side pass as the person in the photos; nobody is like another."""
    whole = strangers_to([f"p{i}" for i in range(n)], (SAME,) * tuned + (0.0,) * (n - tuned), 0.0)
    sides = {
        name: dataclasses.replace(getattr(whole, name), to_reference=(SAME,) * count + (0.0,) * (n - count))
        for name, count in (("base", base), ("scrambled", scrambled))
    }
    return dataclasses.replace(whole, **sides)


def of(evidence, null=None, **thresholds):
    claim = accepted_claim(evidence, dataclasses.replace(POLICY, **thresholds), null)
    return claim.severity, claim.doubt


def test_accepted_pictures_decide_at_their_thresholds():
    four = passing(4)
    low = accepted_claim(four, POLICY, None).share.low
    assert low == pytest.approx(0.2152, abs=1e-4)
    assert of(four, critical_low=low) == (CRITICAL, None)
    assert of(four, critical_low=low + BIT, high_low=low) == (HIGH, None)
    assert of(four, critical_low=low + BIT, high_low=low + BIT) == (MEDIUM, None)
    assert [of(passing(k))[0] for k in (0, 1, 2, 5)] == [NONE, LOW, HIGH, CRITICAL]
    # One of one is all of them, and still one.
    assert of(passing(1, n=1), high_low=0.0, critical_low=0.0) == (LOW, None)


def test_accepted_pictures_have_to_lead_either_control():
    assert of(passing(3, base=3)) == (OPEN, Doubt.BASE)
    assert of(passing(3, base=4)) == (OPEN, Doubt.BASE)
    assert of(passing(3, scrambled=3)) == (OPEN, Doubt.SCRAMBLED)
    assert of(passing(3, base=3, scrambled=3)) == (OPEN, Doubt.BASE)
    assert of(passing(3, base=2)) == of(passing(3, scrambled=2)) == (LOW, None)
    # 0.409 is the lower end of six of eight: above three of eight, not above four.
    assert [of(passing(6, base=k))[0] for k in (3, 4)] == [CRITICAL, LOW]
    assert [of(passing(6, scrambled=k))[0] for k in (3, 4)] == [CRITICAL, LOW]


LIKE = Null((8,), (0.0,) * 99, likeness=(0.0,) * 90 + (0.9,) * 9)


def test_accepted_pictures_are_placed_among_other_people():
    everything = {"high_p": 0.1, "medium_p": 0.1, "low_p": 0.1, "alpha": 0.0}
    assert of(passing(6), LIKE, **everything) == (CRITICAL, None)
    assert of(passing(3), LIKE, **everything) == (HIGH, None)
    everything["high_p"] -= BIT
    assert of(passing(6), LIKE, **everything) == of(passing(3), LIKE, **everything) == (MEDIUM, None)
    everything["medium_p"] -= BIT
    assert of(passing(6), LIKE, **everything) == (LOW, None)
    everything["low_p"] -= BIT
    assert of(passing(6), LIKE, **everything) == (OPEN, Doubt.CONTROLS)
    assert of(passing(2), LIKE, **everything) == (OPEN, Doubt.CONTROLS)
    # One picture that passes is luck once others can be compared.
    assert of(passing(1), LIKE, **everything) == (NONE, None)
    assert of(passing(1, base=1), LIKE, **everything) == (NONE, None)
    assert of(passing(1), dataclasses.replace(LIKE, likeness=())) == (LOW, None)


def alike(cosine, base=0.0, scrambled=0.0, null=LIKE, **thresholds):
    """By likeness alone: no picture passes."""
    whole = strangers_to([f"p{i}" for i in range(8)], tuple(cosine + 0.001 * i for i in range(8)), 0.0)
    sides = {
        name: dataclasses.replace(getattr(whole, name), to_reference=(value,) * 8)
        for name, value in (("base", base), ("scrambled", scrambled))
    }
    evidence = dataclasses.replace(whole, **sides)
    claim = accepted_claim(evidence, dataclasses.replace(POLICY, **thresholds), null)
    assert claim.by_likeness is (claim.severity > OPEN)
    return claim.severity


def test_a_likeness_alone_decides_at_its_thresholds():
    assert alike(0.4, high_p=0.1, medium_p=0.1) is MEDIUM
    assert alike(0.4, high_p=0.1 - BIT, medium_p=0.1) is LOW
    assert alike(0.4, high_p=0.1 - BIT, medium_p=0.1 - BIT) is NONE
    assert alike(0.4, null=None) is NONE
    least = 1 / 12870
    for side in ("base", "scrambled"):
        assert alike(0.4, high_p=0.1, medium_p=0.1, alpha=least + BIT, **{side: 0.39}) is MEDIUM
        assert alike(0.4, high_p=0.1, medium_p=0.1, alpha=least - BIT, **{side: 0.39}) is NONE
        assert alike(0.4, high_p=0.1, medium_p=0.1, **{side: 0.5}) is NONE


def test_a_likeness_is_compared_with_both_controls_at_alpha_exactly():
    whole = strangers_to(list(range(8)), (0.4,) * 8, 0.0)
    p = likeness_test(whole).p_value
    for alpha, level in ((p, MEDIUM), (p - BIT, NONE)):
        policy = dataclasses.replace(POLICY, alpha=alpha, high_p=0.1, medium_p=0.1)
        assert accepted_claim(whole, policy, LIKE).severity is level
    alone = dataclasses.replace(whole, scrambled=None, scrambled_cross=())
    assert (
        accepted_claim(alone, dataclasses.replace(POLICY, high_p=0.1, medium_p=0.1), LIKE).severity is MEDIUM
    )


def test_the_worse_of_what_pictures_and_likeness_say_counts():
    """Two of eight pass, which is high; where that is doubted, the likeness may still be low or medium."""
    assert of(passing(2)) == (HIGH, None)
    claim = accepted_claim(passing(2, base=2), dataclasses.replace(POLICY, high_p=0.1, alpha=1.0), LIKE)
    assert (claim.severity, claim.by_likeness, claim.doubt) == (OPEN, False, Doubt.BASE)
    doubted = dataclasses.replace(POLICY, high_p=0.1, medium_p=0.1, low_p=0.0, alpha=1.0)
    claim = accepted_claim(passing(6, base=6), doubted, LIKE)
    assert (claim.severity, claim.by_likeness, claim.doubt) == (MEDIUM, True, None)


def test_without_photos_or_a_scrambled_lora_there_is_less_to_tell():
    assert accepted_claim(FIVE, POLICY, None) is None
    alone = dataclasses.replace(FIVE, scrambled=None, scrambled_cross=())
    claim = agreement_claim(alone, POLICY, 1, None)
    assert (claim.severity, claim.scrambled, len(claim.tests), claim.conformal) == (HIGH, None, 1, None)
    assert len(agreement_claim(FIVE, POLICY, 1, NULL).tests) == 2
    photos = passing(6)
    both = accepted_claim(photos, POLICY, None)
    one = accepted_claim(dataclasses.replace(photos, scrambled=None, scrambled_cross=()), POLICY, None)
    assert (len(both.tests), len(one.tests), one.scrambled, one.severity) == (2, 1, None, CRITICAL)


def claim(severity=HIGH, value=0.5, base=0.0, scrambled=None, p=(0.01,), found=8):
    evidence = seen([0] * found + [None] * (8 - found))

    def share(k):
        return Share(round(1000 * k), 1000, 0.0, 1.0)

    tests = tuple(Comparison(one, 0.0) for one in p)
    control = None if scrambled is None else share(scrambled)
    return Claim(severity, evidence, share(value), share(base), control, tests)


def test_the_controls_share_and_the_chance_are_the_larger_ones():
    assert [claim(base=b, scrambled=s).control for b, s in ((0.1, 0.2), (0.2, 0.1), (0.1, None))] == [
        0.2, 0.2, 0.1,
    ]  # fmt: skip
    assert [claim(p=p).chance for p in ((0.1, 0.2), (0.2, 0.1), (0.1,))] == [0.2, 0.2, 0.1]


def test_the_strongest_is_the_worst_then_the_clearest_then_the_least_likely():
    weak, strong = claim(MEDIUM, value=0.9), claim(HIGH, value=0.1)
    assert strongest([weak, strong], POLICY) is strongest([strong, weak], POLICY) is strong
    near, far = claim(value=0.6, base=0.3), claim(value=0.5, base=0.1)
    assert strongest([near, far], POLICY) is strongest([far, near], POLICY) is far
    luck, less = claim(p=(0.02,)), claim(p=(0.01,))
    assert strongest([luck, less], POLICY) is strongest([less, luck], POLICY) is less
    assert strongest([], POLICY) is None


def test_none_takes_enough_faces_to_be_said_and_more_takes_none():
    few, enough = claim(NONE, found=4), claim(NONE, found=5)
    assert strongest([few], POLICY) is None
    assert strongest([enough, few], POLICY) is enough
    assert strongest([claim(OPEN, found=0)], POLICY).severity is OPEN

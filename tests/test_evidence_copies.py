"""A copy is nearer to the photo than the limit and than the margin allows: at either bound, exactly."""

import dataclasses

import pytest

from loraudit.evidence.copies import Copies, copied_share
from loraudit.evidence.faces import AttackEvidence, Faces
from loraudit.findings.finding import Confidence, Severity
from loraudit.verdict.copies import judge_copies
from loraudit.verdict.policy import Policy

POLICY = Policy()


def copies(*tuned, base=((1.0, 1.0),), scrambled=((1.0, 1.0),), margin=0.5, limit=0.25):
    return Copies(margin, limit, tuned, base, scrambled)


def share(found):
    return copied_share(found.tuned, found.controls, found).value


def evidence(found, attack="a"):
    nobody = Faces(4, 0, ())
    return AttackEvidence(attack, 0.5, 1e-3, nobody, nobody, (), nobody, copies=found)


@pytest.mark.parametrize(
    ("row", "copied"),
    [
        ((0.25, 1.0), 1),  # at the limit
        ((0.2500001, 1.0), 0),
        ((1.0, 0.0), 1),
        ((0.9, 0.9), 0),
    ],
)
def test_the_limit_is_a_distance_at_most(row, copied):
    assert share(copies(row)) == copied


def test_the_margin_is_one_to_the_nearest_control_of_that_photo():
    assert share(copies((0.25, 1.0), base=((0.5, 1.0),))) == 0, "half as far is not less than half as far"
    assert share(copies((0.2499, 1.0), base=((0.5, 1.0),))) == 1
    assert share(copies((0.2, 1.0), base=((1.0, 0.0),))) == 1, "another photo's control"
    assert share(copies((0.2, 1.0), base=((1.0, 1.0), (0.3, 1.0)))) == 0, "any control"
    assert share(copies((0.2, 1.0), scrambled=((0.3, 1.0),))) == 0, "either control"
    assert share(copies((0.0, 0.0), base=(), scrambled=())) == 0, "no control"


NEAR, FAR = (0.1, 1.0), (1.0, 1.0)


def test_what_is_critical_begins_at_the_threshold():
    four = evidence(copies(*[NEAR] * 4, *[FAR] * 4))
    low = judge_copies([four], POLICY)[0].numbers["low"]
    for critical_low, level in ((low, Severity.CRITICAL), (low + 1e-9, Severity.HIGH)):
        (finding,) = judge_copies([four], dataclasses.replace(POLICY, critical_low=critical_low))
        assert finding.severity is level


@pytest.mark.parametrize(
    ("near", "level", "trust"),
    [
        (0, None, None),
        (1, Severity.MEDIUM, Confidence.LOW),
        (2, Severity.HIGH, Confidence.MEDIUM),
        (4, Severity.HIGH, Confidence.MEDIUM),
        (5, Severity.CRITICAL, Confidence.MEDIUM),
    ],
)
def test_one_copy_may_be_luck_two_are_not(near, level, trust):
    found = judge_copies([evidence(copies(*[NEAR] * near, *[FAR] * (8 - near)))], POLICY)
    assert [(one.severity, one.confidence) for one in found] == ([(level, trust)] if level else [])


def test_the_numbers_are_those_of_the_strongest_attack_and_its_nearest_picture():
    weak = evidence(copies(NEAR, NEAR, FAR, FAR), "weak")
    strong = evidence(copies(NEAR, (0.8, 0.05), (0.24, 0.2), FAR, base=((0.5, 0.5),)), "strong")
    (finding,) = judge_copies([weak, strong], POLICY)
    (swapped,) = judge_copies([strong, weak], POLICY)
    assert finding == swapped
    numbers = finding.numbers
    assert (numbers["attack"], numbers["k"], numbers["n"], numbers["value"]) == ("strong", 3, 4, 0.75)
    assert (numbers["photos"], numbers["photos_copied"]) == (2, 2)
    assert (numbers["nearest"], numbers["nearest_control"]) == (0.05, 0.5)
    assert (numbers["low"], numbers["high"]) == pytest.approx((0.30064, 0.95441), abs=1e-5)
    assert "3 of 4" in finding.detail and "0.10 times" in finding.detail
    assert "2 of 2 photos" in finding.detail


def test_a_control_that_is_the_photo_is_never_divided_by():
    found = copies((0.1, 0.0), (0.1, 0.3), base=((1.0, 0.0),))
    (finding,) = judge_copies([evidence(found)], POLICY)
    assert (finding.numbers["k"], finding.numbers["nearest"]) == (2, 0.1)
    # Nearer than half, farther than a control at no distance: a ratio of 1.
    found = copies((0.1, 0.0), (0.24, 0.3), base=((0.3, 0.0),))
    assert judge_copies([evidence(found)], POLICY)[0].numbers["nearest"] == 0.1


def test_the_worse_level_leads_and_then_the_larger_share():
    two_of_8 = evidence(copies(*[NEAR] * 2, *[FAR] * 6), "two of 8")
    one_of_one = evidence(copies(NEAR), "one of one")
    four_of_8 = evidence(copies(*[NEAR] * 4, *[FAR] * 4), "four of 8")
    for several, lead in (
        ((two_of_8, one_of_one), "two of 8"),
        ((one_of_one, two_of_8), "two of 8"),
        ((two_of_8, four_of_8, one_of_one), "four of 8"),
        ((four_of_8, two_of_8), "four of 8"),
    ):
        assert judge_copies(several, POLICY)[0].numbers["attack"] == lead


@pytest.mark.parametrize("nothing", [copies(), copies(NEAR, base=(), scrambled=())])
def test_an_attack_with_nothing_to_compare_leaves_it_open_unless_another_tells(nothing):
    (finding,) = judge_copies([evidence(nothing), evidence(None)], POLICY)
    assert (finding.severity, finding.confidence) == (Severity.INCONCLUSIVE, Confidence.LOW)
    (told,) = judge_copies([evidence(nothing), evidence(copies(NEAR, FAR))], POLICY)
    assert told.severity is Severity.MEDIUM
    assert judge_copies([evidence(nothing), evidence(copies(FAR))], POLICY) == ()
    assert judge_copies([evidence(None)], POLICY) == judge_copies([], POLICY) == ()


@pytest.mark.parametrize("side", ["base", "scrambled"])
def test_one_control_is_enough(side):
    (finding,) = judge_copies([evidence(copies(NEAR, **{side: ()}))], POLICY)
    assert finding.severity is Severity.MEDIUM


@pytest.mark.parametrize("side", [0, 1, 2])
def test_all_are_compared_with_as_many_photos(side):
    rows = [((0.1, 0.2),)] * 3
    rows[side] = ((0.1,),)
    with pytest.raises(ValueError, match="different numbers"):
        Copies(0.5, 0.25, *rows)

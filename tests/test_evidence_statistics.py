"""Permutation tests hold their level exactly, and sampled ones are never more certain than their draws."""

import dataclasses
import math
from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraudit.evidence.faces import AttackEvidence, Faces
from loraudit.evidence.statistics import agreement_test, likeness, likeness_test, of_pictures
from tests.seen import OTHER, SAME, THRESHOLD

DRAWS = 9_999


def shown(tuned, base):
    """Evidence of pictures of these people; a face of None is none."""

    def faces(people):
        found = [who for who in people if who is not None]
        where = tuple(i for i, who in enumerate(people) if who is not None)
        pairs = tuple(SAME if a == b else OTHER for a, b in combinations(found, 2))
        return Faces(len(people), len(found), pairs, None, where), found

    (left, ours), (right, theirs) = faces(tuned), faces(base)
    cross = tuple(SAME if a == b else OTHER for a in ours for b in theirs)
    return AttackEvidence("a", THRESHOLD, 1e-3, left, right, cross)


def alike(tuned, base):
    """Evidence of pictures with these cosines to the photos; None: no face."""

    def faces(cosines):
        found = tuple(cosine for cosine in cosines if cosine is not None)
        where = tuple(i for i, cosine in enumerate(cosines) if cosine is not None)
        return Faces(len(cosines), len(found), (OTHER,) * math.comb(len(found), 2), found, where)

    left, right = faces(tuned), faces(base)
    return AttackEvidence("a", THRESHOLD, 1e-3, left, right, (OTHER,) * (left.found * right.found))


def of_all_labellings(make, test, pool, size):
    """The p-values, had any other `size` pictures of the pool been the tuned ones."""
    groups = list(combinations(range(len(pool)), size))
    return [
        test(make([pool[i] for i in group], [pool[i] for i in range(len(pool)) if i not in group])).p_value
        for group in groups
    ]


people = st.lists(st.sampled_from([0, 0, 0, 1, 1, 2, None]), min_size=4, max_size=6)
likenesses = st.lists(st.sampled_from([0.0, 0.25, 0.5, -0.25, None]), min_size=3, max_size=6)


@given(people)
def test_at_most_a_share_p_of_all_labellings_has_a_p_value_of_at_most_p(pool):
    """Any pictures, tuned or not: the test is exact, ties and faceless pictures included."""
    found = of_all_labellings(shown, agreement_test, pool, 2)
    assert all(sum(other <= p for other in found) / len(found) <= p for p in found)
    # And the most extreme labelling gets as much as it can.
    assert min(found) * len(found) == pytest.approx(found.count(min(found)))


@given(likenesses)
def test_and_so_it_is_of_the_likeness(pool):
    found = of_all_labellings(alike, likeness_test, pool, 2)
    assert all(sum(other <= p for other in found) / len(found) <= p for p in found)
    assert min(found) * len(found) == pytest.approx(found.count(min(found)))


@given(people, st.integers(2, 4))
def test_the_p_value_is_that_of_the_difference_of_shares(pool, size):
    """By the definition, in fractions: pairs that match over all pairs of pictures, on either side."""
    size = min(size, len(pool) - 2)

    def difference(group):
        def share(side):
            pairs = list(combinations([pool[i] for i in side], 2))
            return Fraction(sum(a == b and a is not None for a, b in pairs), len(pairs))

        return share(group) - share([i for i in range(len(pool)) if i not in group])

    groups = list(combinations(range(len(pool)), size))
    found = of_all_labellings(shown, agreement_test, pool, size)
    for group, p in zip(groups, found, strict=True):
        assert p == sum(difference(other) >= difference(group) for other in groups) / len(groups)


def test_cosines_at_the_threshold_match():
    at = shown([0, 0, 0], [1, 2, 3])
    at = dataclasses.replace(at, tuned=dataclasses.replace(at.tuned, pairs=(THRESHOLD,) * 3))
    assert agreement_test(at).p_value == 1 / 20
    below = dataclasses.replace(at, tuned=dataclasses.replace(at.tuned, pairs=(THRESHOLD - 1e-9,) * 3))
    assert agreement_test(below).p_value == 1.0


def one_person(size, pictures):
    return shown([0] * size + list(range(1, pictures - size + 1)), [f"s{i}" for i in range(pictures)])


@pytest.mark.parametrize("size", [4, 5, 6, 9, 12])
def test_a_sampled_p_value_is_never_zero_and_near_the_exact_one(size):
    """12 pictures a side have 2.7 million labellings; at most as many as hold all of the one person lead."""
    p = agreement_test(one_person(size, 12)).p_value
    exact = math.comb(24 - size, 12 - size) / math.comb(24, 12)
    sampled = round(p * (DRAWS + 1))
    assert p == sampled / (DRAWS + 1) and sampled >= 1
    # The labelling at hand is counted beside the draws.
    assert abs((sampled - 1) / DRAWS - exact) <= 4 * math.sqrt(exact / DRAWS) + 1e-12
    if size == 12:
        assert p == 1 / (DRAWS + 1)


def test_nor_is_that_of_the_likeness():
    ours, theirs = [0.9 + 0.001 * i for i in range(12)], [0.001 * i for i in range(12)]
    assert likeness_test(alike(ours, theirs)).p_value == 1 / (DRAWS + 1)
    assert likeness_test(alike(theirs, ours)).p_value == 1.0
    # Below the limit all labellings are gone through, and the one at hand is among them.
    assert likeness_test(alike(ours[:8], theirs[:8])).p_value == 1 / math.comb(16, 8)


def test_what_chance_relabelling_exceeds_is_a_share_of_faces_and_a_mean_of_pictures():
    # Of two of four pictures, one of six choices is the pair that matches: 95 in 100 choices reach 1.
    assert agreement_test(shown([0, 0], [1, 2])).null_p95 == 1.0
    # Any 2 of 3 against any 2: shares among the faces found, not among the pictures.
    assert agreement_test(shown([0, 0, None], [1, 2, None])).null_p95 == 1.0
    assert agreement_test(shown([0, 0, 0], [0, 1, 2])).null_p95 == pytest.approx(1.0)
    assert agreement_test(shown([0, 0, 1, 2], [3, 4, 5, 6])).null_p95 == pytest.approx(1 / 6)
    assert likeness_test(alike([0.8, 0.6], [0.0, 0.0])).null_p95 == pytest.approx(0.7)
    assert likeness_test(alike([0.8] + [0.0] * 4, [0.0] * 5)).null_p95 == pytest.approx(0.16)


@pytest.mark.parametrize("test", [agreement_test, likeness_test])
def test_without_pictures_on_a_side_nothing_is_told(test):
    for make in (shown, alike):
        if test is likeness_test and make is shown:
            continue
        for tuned, base in (([], [0.5, 0.5]), ([0.5, 0.5], [])):
            found = test(make(tuned, base))
            assert (found.p_value, found.null_p95) == (1.0, 1.0)


def test_one_picture_has_no_pair_but_a_likeness():
    assert agreement_test(shown([0], [1, 1, 1])).p_value == 1.0
    assert agreement_test(shown([1, 1, 1], [0])).p_value == 1.0
    assert likeness_test(alike([0.9], [0.1, 0.2])).p_value == pytest.approx(1 / 3)
    assert likeness_test(alike([0.9, 0.8], [0.1])).p_value == pytest.approx(1 / 3)


def test_a_picture_without_a_face_is_like_nobody():
    faces = Faces(4, 2, (OTHER,), (0.5, 0.7), (1, 3))
    assert likeness(faces) == pytest.approx(0.3)
    assert of_pictures(faces) == [0.5, 0.7, 0.0, 0.0]
    assert likeness(Faces(2, 0, ())) == 0.0

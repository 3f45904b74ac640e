"""Conformal p-values count ties, and a distribution is shown only where every attack has its number."""

import dataclasses
import math
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from loraudit.evidence.null import Null, agreement_score, conformal_p, distributions, likeness_score
from tests.seen import OTHER, SAME, THRESHOLD, of_people, seen, strangers_to

few = st.sampled_from([0.0, 0.0, 0.0, 0.25, 1.0])
"""Real scores tie, most of all at 0."""


@given(st.lists(few, min_size=1, max_size=40))
def test_a_control_is_no_less_likely_than_its_p_value_among_the_others_whatever_ties(scores):
    """Of any scores, at most a share p has a p-value of at most p: validity, without a distribution."""
    found = [
        Fraction(round(conformal_p(one, [*scores[:i], *scores[i + 1 :]]) * len(scores)), len(scores))
        for i, one in enumerate(scores)
    ]
    assert all(sum(other <= p for other in found) <= p * len(scores) for p in found)
    # And no smaller p-value could be given to the highest: the bound is met.
    assert min(found) == Fraction(scores.count(max(scores)), len(scores))


def test_ties_count_and_nothing_is_impossible():
    assert conformal_p(0.0, [0.0] * 99) == 1.0
    assert conformal_p(0.5, [0.0] * 49 + [0.5] * 50) == 51 / 100
    assert conformal_p(0.5, [0.0] * 99) == 1 / 100
    assert conformal_p(0.5, []) == 1.0


@given(few, few, st.lists(few, max_size=20))
def test_a_higher_score_has_no_higher_p_value(one, other, controls):
    low, high = sorted((one, other))
    assert 1 / (len(controls) + 1) <= conformal_p(high, controls) <= conformal_p(low, controls) <= 1


NULL = Null((8,), (0.0, 0.5), (0.1, 0.2), (0.9,), (0.8,))
SHOWN, BARE = strangers_to([0] * 8, (SAME,) * 8, 0.0), seen([0] * 4 + [1, 2, 3, 4])


@given(st.lists(st.booleans(), max_size=4))
def test_the_likeness_is_shown_only_where_all_attacks_were_compared_with_photos(compared):
    found = distributions([SHOWN if one else BARE for one in compared], NULL)
    names = [one.name for one in found]
    assert names == (["agreement"] if compared else []) + (["likeness"] if compared and all(compared) else [])


def test_a_distribution_is_of_the_strongest_attack_among_those_of_the_null():
    agreement, likeness = distributions([SHOWN, dataclasses.replace(SHOWN, tuned=like(0.3))], NULL)
    assert (agreement.here, agreement.harmless, agreement.leaking) == (1.0, (0.0, 0.5), (0.9,))
    assert math.isclose(likeness.here, SAME)
    assert (likeness.harmless, likeness.leaking) == ((0.1, 0.2), (0.8,))
    # What is made for photos alone has no say in the agreement, and all its say in the likeness.
    weak = dataclasses.replace(SHOWN, tuned=like(0.3))
    for_photos = dataclasses.replace(SHOWN, likeness_only=True)
    agreement, likeness = distributions([weak, for_photos], NULL)
    assert agreement.here == 0.0 and math.isclose(likeness.here, SAME)
    assert distributions([for_photos], NULL)[0].here == 0.0
    assert len(distributions([SHOWN], dataclasses.replace(NULL, likeness=()))) == 1
    assert distributions([SHOWN], None) == ()


def like(cosine):
    """Eight strangers to each other, of this likeness to the photos."""
    return dataclasses.replace(of_people(list(range(8))), to_reference=(cosine,) * 8)


def test_scores_are_those_of_the_last_look_that_was_reached():
    faces = dataclasses.replace(of_people([0, 0, 1, None, 2]), to_reference=(0.8, 0.4, -0.4, 0.9))
    assert [agreement_score(faces, THRESHOLD, looks) for looks in ((2,), (2, 3), (3, 9), (6,), ())] == [
        1.0, 1 / 3, 1 / 3, 0.0, 0.0,
    ]  # fmt: skip
    assert agreement_score(faces, THRESHOLD, (5,)) == 1 / 10
    assert agreement_score(faces, SAME, (2,)) == 1.0, "a cosine at the threshold matches"
    assert agreement_score(faces, OTHER, (5,)) == 6 / 10
    for looks, score in (((2,), 1.2 / 2), ((2, 4), 0.8 / 4), ((5,), 1.7 / 5), ((6,), 0.0), ((), 0.0)):
        assert math.isclose(likeness_score(faces, looks), score)
    assert likeness_score(like(-0.5), (8,)) == 0.0

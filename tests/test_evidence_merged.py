"""Several LoRAs merged are told from one by their directions, whatever its rank and modules."""

import numpy as np
import pytest

from loraudit.evidence.merging import one_person_p

EXPONENTS = {"attn1.to_q": 0.6, "attn2.to_k": 0.2, "ff.net": 0.8}


def spread(rng, rank, *, more=1.0, kinds=tuple(EXPONENTS), recipe=0.1):
    """What fine-tuning leaves, give or take 5 % a kind and what is a recipe's own; `more` times as much."""
    own = rng.normal(0, recipe)
    return {
        kind: (
            rank,
            max(1.0, more * np.exp(EXPONENTS[kind] * np.log2(rank) ** 0.75 + own + rng.normal(0, 0.05)))
            if rank > 1
            else 1.0,
        )
        for kind in kinds
    }


@pytest.fixture(scope="module")
def people():
    rng = np.random.default_rng(0)
    kinds = [tuple(EXPONENTS), ("attn1.to_q", "attn2.to_k")]
    return [spread(rng, (1, 4, 8, 16, 32)[i % 5], kinds=kinds[i % 2]) for i in range(100)]


@pytest.mark.parametrize("rank", [2, 4, 12, 32])
@pytest.mark.parametrize("kinds", [("ff.net",), ("attn2.to_k",), tuple(EXPONENTS)])
def test_more_directions_than_one_person_takes_are_merged(people, rank, kinds) -> None:
    rng = np.random.default_rng(rank)
    one, merged = (
        one_person_p(spread(rng, rank, more=more, kinds=kinds, recipe=0), people) for more in (1.0, 1.6)
    )
    assert one > 0.1 and merged < 0.01


def test_as_many_are_usual_for_one_kind_and_rank_and_not_for_another(people) -> None:
    usual = np.exp(0.8 * np.log2(32) ** 0.75)
    assert one_person_p({"ff.net": (32, usual)}, people) > 0.1
    assert one_person_p({"ff.net": (8, usual)}, people) < 0.001
    assert one_person_p({"attn1.to_q": (32, usual)}, people) < 0.001


def test_one_kind_out_of_many_does_not_decide(people) -> None:
    usual = {kind: (16, np.exp(a * np.log2(16) ** 0.75)) for kind, a in EXPONENTS.items()}
    odd = {**usual, "ff.net": (16, 15.9)}
    assert one_person_p(odd, people) > 0.2
    assert one_person_p({"ff.net": odd["ff.net"]}, people) < 0.01


def test_nothing_is_assumed_to_rise_beyond_the_highest_rank_of_the_data(people) -> None:
    known = spread(np.random.default_rng(3), 32)
    beyond = {kind: (128, found) for kind, (_, found) in known.items()}
    assert one_person_p(known, people) == one_person_p(beyond, people)


def test_p_values_of_loras_of_one_person_are_uniform_and_of_others_are_not(people) -> None:
    rng = np.random.default_rng(4)
    ranks = (4, 8, 16, 32)
    one, more = (
        np.array([one_person_p(spread(rng, ranks[i % 4], more=k), people) for i in range(400)])
        for k in (1, 1.1)
    )
    for level in (0.01, 0.1, 0.5, 0.9):
        # What the data miss of the true exponents shifts all of them.
        assert abs((one <= level).mean() - level) < 0.03 + 0.2 * min(level, 1 - level)
    assert (more <= 0.1).mean() > 0.25


def test_rank_1_tells_nothing_of_how_recipes_vary(people) -> None:
    here = spread(np.random.default_rng(5), 8, more=1.2)
    flat = [spread(np.random.default_rng(6), 1)] * 500
    assert one_person_p(here, people + flat) == pytest.approx(one_person_p(here, people))
    assert one_person_p(flat[0], people) > 0.3


def test_what_cannot_be_compared_is_no_doubt(people) -> None:
    assert one_person_p({}, people) == 1.0
    assert one_person_p({"conv": (4, 4.0)}, people) == 1.0
    assert one_person_p({"ff.net": (4, 4.0)}, []) == 1.0
    assert one_person_p({"ff.net": (4, 4.0)}, people[1:3]) == 1.0
    assert one_person_p({"ff.net": (4, 4.0)}, [{"ff.net": (4, 2.0)}] * 9) == 1.0

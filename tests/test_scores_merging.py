"""Several LoRAs merged are told from one by their directions, whatever its rank and modules."""

import numpy as np
import pytest

from loraudit.scores.merging import one_person_p

EXPONENTS = {"attn1.to_q": 0.6, "attn2.to_k": 0.2, "ff.net": 0.8}


def spread(rng, rank, *, more=1.0, kinds=tuple(EXPONENTS)):
    """What fine-tuning leaves, give or take 5 %; of `more` times the directions."""
    return {
        kind: (rank, max(1.0, more * np.exp(EXPONENTS[kind] * np.log2(rank) ** 0.75 + rng.normal(0, 0.05))))
        for kind in kinds
    }


@pytest.fixture(scope="module")
def people():
    rng = np.random.default_rng(0)
    kinds = [tuple(EXPONENTS), ("attn1.to_q", "attn2.to_k")]
    return [spread(rng, (1, 4, 8, 16, 32)[i % 5], kinds=kinds[i % 2]) for i in range(199)]


@pytest.mark.parametrize("rank", [2, 4, 12, 32])
@pytest.mark.parametrize("kinds", [("ff.net",), ("attn2.to_k",), tuple(EXPONENTS)])
def test_more_directions_than_one_person_takes_are_merged(people, rank, kinds) -> None:
    rng = np.random.default_rng(rank)
    one, merged = (one_person_p(spread(rng, rank, more=more, kinds=kinds), people) for more in (1.0, 1.6))
    assert one > 0.01 >= merged


def test_as_many_are_usual_for_one_kind_and_rank_and_not_for_another(people) -> None:
    usual = np.exp(0.8 * np.log2(32) ** 0.75)
    assert one_person_p({"ff.net": (32, usual)}, people) > 0.1
    assert one_person_p({"ff.net": (8, usual)}, people) == 1 / 200
    assert one_person_p({"attn1.to_q": (32, usual)}, people) == 1 / 200


def test_nothing_is_assumed_to_rise_beyond_the_highest_rank_of_the_data(people) -> None:
    rng = np.random.default_rng(3)
    assert one_person_p({**spread(rng, 32)}, people) == one_person_p(
        {kind: (128, found) for kind, (_, found) in spread(np.random.default_rng(3), 32).items()}, people
    )


def test_p_values_of_loras_of_one_person_are_uniform(people) -> None:
    rng = np.random.default_rng(4)
    values = [one_person_p(spread(rng, (4, 8, 16, 32)[i % 4]), people) for i in range(80)]
    for level in (0.1, 0.3, 0.5, 0.8):
        # Four of five are of rank 4 and more, as one in five of the data is not and has no excess.
        assert abs(np.mean(np.array(values) <= level) - level) < 0.2
    assert min(values) > 1 / 200


def test_what_cannot_be_compared_is_no_doubt(people) -> None:
    assert one_person_p({}, people) == 1.0
    assert one_person_p({"conv": (4, 4.0)}, people) == 1.0
    assert one_person_p({"ff.net": (4, 4.0)}, []) == 1.0
    alone = [{"ff.net": (4.0, 2.0)}, *({"attn1.to_q": (4.0, 2.0)},) * 3]
    assert one_person_p({"ff.net": (4, 3.0)}, alone) == 1 / 4

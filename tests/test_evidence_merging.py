"""The p-value of one person, done again in numpy: least squares, leave-one-out and Student's t."""

import numpy as np
import pytest
from scipy import stats

from loraudit.evidence.merging import one_person_p

KINDS = ("attn1.to_q", "attn2.to_k", "ff.net", "conv")


def again(spread, people):
    """The same from the documentation of the module."""
    highest = max(rank for one in people for rank, _ in one.values())

    def growth(rank):
        return np.log2(min(rank, highest)) ** 0.75

    def excess(one, others):
        beyond = []
        for kind, (rank, directions) in one.items():
            known = [(growth(other[kind][0]), np.log(other[kind][1])) for other in others if kind in other]
            x, y = np.asarray(known).reshape(-1, 2).T
            if x.any():
                beyond.append(np.log(directions) - (x @ y) / (x @ x) * growth(rank))
        return np.median(beyond) if beyond else None

    found = [
        excess(one, people[:i] + people[i + 1 :])
        for i, one in enumerate(people)
        if any(rank > 1 for rank, _ in one.values())
    ]
    found = [one for one in found if one is not None]
    here, n = excess(spread, people), len(found)
    if here is None or n < 3:
        return 1.0
    scale = np.std(found, ddof=1) * np.sqrt(1 + 1 / n)
    return stats.t.sf((here - np.mean(found)) / scale, n - 1)


def made(rng, kinds):
    rank = int(rng.choice([1, 2, 4, 8, 16]))
    ranks = {kind: 1 if rng.random() < 0.2 else rank for kind in kinds}
    return {
        kind: (float(r), float(np.exp(rng.uniform(0.1, 0.9) * np.log2(r) ** 0.75)) if r > 1 else 1.0)
        for kind, r in ranks.items()
    }


@pytest.mark.parametrize("count", [3, 4, 7, 40])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_what_the_module_says(count, seed):
    rng = np.random.default_rng(seed)
    people = [made(rng, KINDS[: 2 + i % 3]) for i in range(count)]
    told = 0
    for rank in (2.0, 8.0, 64.0):
        for directions in (1.2, 2.0, 4.0):
            spread = {kind: (rank, directions * (1 + i / 4)) for i, kind in enumerate(KINDS[seed % 2 :])}
            p = one_person_p(spread, people)
            assert p == pytest.approx(again(spread, people), rel=1e-9, abs=1e-12)
            told += p < 1
    assert told or count == 3


def test_a_kind_that_all_change_in_one_direction_is_known_too():
    rng = np.random.default_rng(1)
    people = [made(rng, KINDS[:2]) | {"conv": (8.0, 1.0)} for _ in range(9)]
    for spread in ({"conv": (8.0, 1.5)}, {"conv": (8.0, 1.5), "attn1.to_q": (8.0, 1.5)}):
        p = one_person_p(spread, people)
        assert p < 1 and p == pytest.approx(again(spread, people), rel=1e-9)


def test_three_loras_that_vary_are_enough_and_two_are_not():
    people = [{"ff.net": (8.0, d)} for d in (3.0, 3.1, 3.3)]
    assert one_person_p({"ff.net": (8.0, 6.0)}, people) < 0.05
    assert one_person_p({"ff.net": (8.0, 6.0)}, people[:2]) == 1.0
    # A kind that one of them alone has tells nothing of that one.
    alone = [*people[:2], {"conv": (8.0, 3.0)}]
    assert one_person_p({"ff.net": (8.0, 6.0)}, alone) == 1.0
    assert one_person_p({"conv": (8.0, 6.0)}, [*people, {"conv": (8.0, 3.0)}]) < 0.05


def test_more_directions_never_make_one_person_likelier():
    rng = np.random.default_rng(9)
    people = [made(rng, KINDS) for _ in range(30)]
    found = [one_person_p({"ff.net": (8.0, d), "conv": (8.0, d)}, people) for d in np.linspace(1, 8, 30)]
    assert found == sorted(found, reverse=True) and found[0] > 0.5 > found[-1]

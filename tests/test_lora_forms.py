"""Each form of update becomes up and down exactly, at the rank that it has, and wrong shapes do not pass."""

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraudit.lora.forms import FORMS, factor, measure

OUT, IN, K = 24, 20, 3


def draw(rng: np.random.Generator, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    return {role: rng.standard_normal(shape).astype(np.float32) for role, shape in shapes.items()}


def tucker(core: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """`left [m, out]`, `right [n, in]`: LyCORIS `functional/general.py`, `rebuild_tucker`."""
    return np.einsum("mnkl,mo,ni->oikl", core, left, right)


def dense(v: Mapping[str, np.ndarray]) -> np.ndarray:
    """The update as the definition of each form says it, `[out, in, k, k]` or `[out, in]`."""
    v = {role: value.astype(np.float64) for role, value in v.items()}
    if "mid" in v:
        return tucker(v["mid"], v["up"][:, :, 0, 0].T, v["down"][:, :, 0, 0])
    if "hada_t1" in v:
        first = tucker(v["hada_t1"], v["hada_w1_a"], v["hada_w1_b"])
        return first * tucker(v["hada_t2"], v["hada_w2_a"], v["hada_w2_b"])
    if "hada_w1_a" in v:
        return (v["hada_w1_a"] @ v["hada_w1_b"]) * (v["hada_w2_a"] @ v["hada_w2_b"])
    if "diff" in v:
        return v["diff"]
    if "down" in v:
        return np.tensordot(v["up"].reshape(OUT, -1), v["down"], 1)
    left = v["lokr_w1"] if "lokr_w1" in v else v["lokr_w1_a"] @ v["lokr_w1_b"]
    if "lokr_t2" in v:
        right = tucker(v["lokr_t2"], v["lokr_w2_a"], v["lokr_w2_b"])
    else:
        right = v["lokr_w2"] if "lokr_w2" in v else v["lokr_w2_a"] @ v["lokr_w2_b"]
    return np.kron(left.reshape(*left.shape, *[1] * (right.ndim - 2)), right)


CASES = {
    "plain": ({"up": (OUT, 4), "down": (4, IN)}, 4, 4),
    "plain kernel": ({"up": (OUT, 4, 1, 1), "down": (4, IN, K, K)}, 4, 4),
    "tucker": ({"up": (OUT, 4, 1, 1), "mid": (4, 5, K, K), "down": (5, IN, 1, 1)}, 5, 4),
    "tucker of a high rank": (
        {"up": (OUT, 300, 1, 1), "mid": (300, 2, K, K), "down": (2, IN, 1, 1)}, 2, OUT
    ),
    "dense": ({"diff": (OUT, IN, K, K)}, None, OUT),
    "loha": (
        {"hada_w1_a": (OUT, 2), "hada_w1_b": (2, IN), "hada_w2_a": (OUT, 3), "hada_w2_b": (3, IN)}, 2, 6
    ),
    "loha of a high rank": (
        {"hada_w1_a": (OUT, 7), "hada_w1_b": (7, IN), "hada_w2_a": (OUT, 7), "hada_w2_b": (7, IN)}, 7, IN
    ),
    "loha tucker": (
        {
            "hada_w1_a": (2, OUT), "hada_w1_b": (3, IN), "hada_t1": (2, 3, K, K),
            "hada_w2_a": (2, OUT), "hada_w2_b": (3, IN), "hada_t2": (2, 3, K, K),
        }, 3, 4
    ),
    "lokr": ({"lokr_w1": (4, 5), "lokr_w2_a": (6, 2), "lokr_w2_b": (2, 4)}, 2, 8),
    "lokr of two pairs": (
        {"lokr_w1_a": (4, 1), "lokr_w1_b": (1, 5), "lokr_w2_a": (6, 2), "lokr_w2_b": (2, 4)}, 2, 2
    ),
    "lokr whole": ({"lokr_w1": (4, 5), "lokr_w2": (6, 4, K, K)}, None, 24),
    "lokr left pair": ({"lokr_w1_a": (4, 1), "lokr_w1_b": (1, 5), "lokr_w2": (6, 4)}, 1, 4),
    "lokr tucker": (
        {"lokr_w1": (4, 5), "lokr_w2_a": (2, 6), "lokr_w2_b": (3, 4), "lokr_t2": (2, 3, K, K)}, 3, 8
    ),
}  # fmt: skip
"""Shapes, what alpha is divided by, and the rank that is read."""


@pytest.mark.parametrize(("shapes", "divisor", "rank"), CASES.values(), ids=CASES)
def test_exactness(shapes: dict, divisor: int | None, rank: int, rng: np.random.Generator) -> None:
    size = measure(shapes)
    assert size is not None
    values = draw(rng, shapes)
    up, down = factor(values)
    expected = dense(values)
    assert (size.outputs, *size.inputs) == expected.shape
    assert size.rank == divisor
    assert (size.read_rank, size.numbers) == (rank, up.size + down.size)
    assert up.dtype == down.dtype == np.float32
    assert (up.shape, down.shape) == ((OUT, rank), (rank, size.shape[1]))
    np.testing.assert_allclose(up.astype("f8") @ down, expected.reshape(OUT, -1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["tucker", "loha tucker", "lokr tucker"])
def test_a_small_file_makes_no_large_matrix(kind: str) -> None:
    many = 100_000
    core, left, right = (many, 1, 1, 1), (many, 4), (1, 9000)
    shapes = {
        "tucker": {"up": left[::-1], "mid": core, "down": right},
        "loha tucker": {
            "hada_w1_a": left,
            "hada_t1": core,
            "hada_w1_b": right,
            "hada_w2_a": left,
            "hada_t2": core,
            "hada_w2_b": right,
        },
        "lokr tucker": {"lokr_w1": (1, 1), "lokr_w2_a": left, "lokr_t2": core, "lokr_w2_b": right},
    }[kind]
    assert measure(shapes).shape == (4, 9000)
    assert measure(shapes).widest == many
    up, down = factor({role: np.ones(shape, np.float32) for role, shape in shapes.items()})
    assert (up.shape, down.shape) == ((4, 4), (4, 9000))


@pytest.mark.parametrize("name", CASES)
def test_one_wrong_axis_is_noticed(name: str) -> None:
    """Any inner axis that is one too long fits nothing; an outer one changes the size that is told."""
    shapes, _, _ = CASES[name]
    size = measure(shapes)
    for role, shape in shapes.items():
        for axis in range(len(shape)):
            longer = (*shape[:axis], shape[axis] + 1, *shape[axis + 1 :])
            other = measure(shapes | {role: longer})
            assert other != size, (role, axis)
        assert measure(shapes | {role: shape[:1]}) is None
        assert measure(shapes | {role: (0, *shape[1:])}) is None
        assert measure(shapes | {role: (*shape, 1, 1, 1)}) is None


@given(st.data())
def test_any_shapes_are_measured_or_refused(data: st.DataObject) -> None:
    """What passes `measure` can be factored, to the size that it told."""
    roles = data.draw(st.sampled_from(sorted(FORMS, key=sorted)))
    sides = st.lists(st.integers(0, 3), min_size=0, max_size=5).map(tuple)
    shapes = {
        role: data.draw(sides | st.sampled_from([(2, 2), (2, 2, 1, 1), (2, 2, 3, 3)]))
        for role in sorted(roles)
    }
    size = measure(shapes)
    if size is not None:
        up, down = factor({role: np.ones(shape, np.float32) for role, shape in shapes.items()})
        assert size.read_rank == up.shape[1]
        assert (up.shape[0], down.shape[1]) == size.shape
        assert up.shape[1] == down.shape[0]

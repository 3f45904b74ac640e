"""The canonical factors depend on the update alone: not on the gauge, the layout or the order of ranks."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from loraudit.errors import NotScannable
from loraudit.lora import Factors, canonicalize, load_lora, write_diffusers, write_kohya, write_peft

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 8))
SEEDS = st.integers(0, 2**32 - 1)
WRITERS = {"diffusers": write_diffusers, "kohya": write_kohya, "peft": write_peft}


def separated(rng: np.random.Generator, out: int, inputs: int, rank: int, dtype=np.float64) -> Factors:
    """Factors of an update with singular values 1, 1/2, 1/4, ...: its canonical form is well determined."""
    left = np.linalg.qr(rng.standard_normal((out, rank)))[0]
    right = np.linalg.qr(rng.standard_normal((inputs, rank)))[0]
    return Factors((left * 2.0 ** -np.arange(rank)).astype(dtype), right.T.astype(dtype), 1.0)


def well_conditioned(rng: np.random.Generator, rank: int) -> np.ndarray:
    """A random invertible matrix of condition at most 9."""
    left, right = (np.linalg.qr(rng.standard_normal((rank, rank)))[0] for _ in range(2))
    return (left * rng.uniform(1 / 3, 3, rank)) @ right


def distance(left: Factors, right: Factors) -> float:
    """The larger of the two factors' relative differences."""
    pairs = ((left.up, right.up), (left.down, right.down))
    return max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in pairs)


@given(SEEDS, st.integers(2, 6), st.integers(6, 40), st.integers(6, 40))
def test_a_change_of_gauge_changes_the_factors_and_not_the_canonical_form(
    seed: int, rank: int, out: int, inputs: int
) -> None:
    rng = np.random.default_rng(seed)
    raw = separated(rng, out, inputs, rank)
    gauge = well_conditioned(rng, rank)
    # In float64: rounded to float32 it would be another update, by that much.
    moved = Factors(raw.up @ gauge, np.linalg.inv(gauge) @ raw.down, 1.0)
    assert distance(canonicalize(moved), canonicalize(raw)) < 1e-6
    assert distance(moved, raw) > 1e-3


@given(SEEDS, st.integers(2, 6))
def test_a_gauge_that_float32_has_rounded(seed: int, rank: int) -> None:
    rng = np.random.default_rng(seed)
    raw = separated(rng, 64, 48, rank, np.float32)
    gauge = well_conditioned(rng, rank)
    moved = Factors(
        (raw.up @ gauge).astype(np.float32), (np.linalg.inv(gauge) @ raw.down).astype(np.float32), 1.0
    )
    assert distance(canonicalize(moved), canonicalize(raw)) < 1e-6
    assert distance(moved, raw) > 1e-3


@given(SEEDS, SHAPES)
def test_signs_and_order_of_the_ranks_do_not_matter(seed: int, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(seed)
    out, inputs, rank = shape
    raw = separated(rng, max(out, rank), max(inputs, rank), rank)
    order, signs = rng.permutation(rank), rng.choice([-1.0, 1.0], rank)
    moved = Factors(raw.up[:, order] * signs, raw.down[order] * signs[:, None], 1.0)
    assert distance(canonicalize(moved), canonicalize(raw)) < 1e-6


@given(SEEDS, SHAPES, st.integers(0, 3))
def test_what_it_is(seed: int, shape: tuple[int, int, int], missing: int) -> None:
    """The SVD of the product, split evenly, for any rank below or above the sizes, deficient or not."""
    rng = np.random.default_rng(seed)
    out, inputs, rank = shape
    up = rng.standard_normal((out, rank)).astype(np.float32)
    up[:, max(rank - missing, 0) :] = up[:, :1]
    raw = Factors(up, rng.standard_normal((rank, inputs)).astype(np.float32), 0.5)
    found = canonicalize(raw)
    assert (found.up.shape, found.down.shape, found.scale) == (raw.up.shape, raw.down.shape, 0.5)
    assert found.up.dtype == found.down.dtype == np.float32
    product = raw.up.astype(np.float64) @ raw.down.astype(np.float64)
    largest = float(np.linalg.norm(product, 2))
    np.testing.assert_allclose(
        found.up.astype(np.float64) @ found.down.astype(np.float64), product, atol=2e-6 * largest
    )
    values = np.zeros(rank)
    exact = np.linalg.svd(product, compute_uv=False)[:rank]
    values[: len(exact)] = exact
    for norms in (np.linalg.norm(found.up, axis=0), np.linalg.norm(found.down, axis=1)):
        np.testing.assert_allclose(norms**2, values, rtol=1e-5, atol=2e-6 * largest)
        assert (np.diff(norms) <= 1e-6 * norms[0]).all()
    kept = int(np.count_nonzero(np.linalg.norm(found.up, axis=0)))
    assert kept == np.linalg.matrix_rank(product, tol=float(np.finfo(np.float32).eps) * largest)
    grams = (found.up.T @ found.up, found.down @ found.down.T)
    for gram in grams:
        np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-5 * gram.max())
    leading = np.abs(found.up[:, :kept]).argmax(axis=0)
    assert (found.up[leading, np.arange(kept)] > 0).all()


@given(st.data())
def test_any_finite_factors_have_a_canonical_form(data) -> None:
    out, inputs, rank = data.draw(SHAPES)
    values = st.floats(-1e6, 1e6, width=32)
    raw = Factors(
        data.draw(arrays(np.float32, (out, rank), elements=values)),
        data.draw(arrays(np.float32, (rank, inputs), elements=values)),
        1.0,
    )
    found = canonicalize(raw)
    product = raw.up.astype(np.float64) @ raw.down.astype(np.float64)
    bound = 1e-6 * np.linalg.norm(raw.up) * np.linalg.norm(raw.down)
    assert np.abs(found.up.astype(np.float64) @ found.down.astype(np.float64) - product).max() <= bound


def test_a_zero_update_is_zero_factors() -> None:
    found = canonicalize(Factors(np.zeros((5, 2), np.float32), np.ones((2, 7), np.float32), 1.0))
    assert not found.up.any()
    assert not found.down.any()
    assert (found.up.shape, found.down.shape) == ((5, 2), (2, 7))


def test_equal_entries_share_the_first_ones_sign() -> None:
    """Rounding must not decide between two entries of one size."""
    for first, second in ((1.0, -1.0), (1.0 - 1e-9, -1.0), (-1.0, 1.0)):
        found = canonicalize(Factors(np.array([[first], [second]]), np.array([[3.0, 4.0]]), 1.0))
        assert found.up[0, 0] > 0
        assert found.up[1, 0] < 0


def test_padding_with_zero_ranks_adds_only_zeros(rng: np.random.Generator) -> None:
    raw = separated(rng, 9, 8, 3)
    wide = canonicalize(Factors(np.pad(raw.up, ((0, 0), (0, 2))), np.pad(raw.down, ((0, 2), (0, 0))), 1.0))
    assert distance(Factors(wide.up[:, :3], wide.down[:3], 1.0), canonicalize(raw)) < 1e-6
    assert not wide.up[:, 3:].any()
    assert not wide.down[3:].any()


def test_an_overflow_is_refused_and_what_float32_can_hold_is_not() -> None:
    huge = np.full((1, 9), 3e38, np.float32)
    with pytest.raises(NotScannable, match="overflows"):
        canonicalize(Factors(huge, huge.T, 1.0))
    found = canonicalize(Factors(huge, np.full((9, 1), 1e-38, np.float32), 1.0))
    np.testing.assert_allclose(found.delta(), 27.0, rtol=1e-6)


@pytest.mark.parametrize("second", WRITERS)
@pytest.mark.parametrize("first", WRITERS)
def test_the_canonical_form_survives_every_layout(
    first: str, second: str, tmp_path: Path, sd1_factors
) -> None:
    """Layout -> canonical -> layout -> canonical, convolutions among them."""
    WRITERS[first](sd1_factors, tmp_path / "first")
    read = {site: canonicalize(pair) for site, pair in load_lora(tmp_path / "first").factors.items()}
    WRITERS[second](read, tmp_path / "second")
    again = load_lora(tmp_path / "second").factors
    assert list(again) == sorted(sd1_factors)
    for site, pair in again.items():
        np.testing.assert_array_equal(pair.up, read[site].up)
        np.testing.assert_array_equal(pair.down, read[site].down)
        assert distance(canonicalize(pair), read[site]) < 1e-6
        assert distance(read[site], sd1_factors[site]) > 0.1

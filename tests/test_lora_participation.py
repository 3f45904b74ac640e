"""In how many directions a file changes a module: whatever the factors; many once LoRAs are merged."""

import dataclasses

import numpy as np
import pytest

from loraudit.lora import Factors, directions
from tests.audits import random_lora


def of(site, *updates):
    """A LoRA of one module, the sum of `(up, down)`, side by side."""
    up, down = (
        np.concatenate(side, axis) for side, axis in zip(zip(*updates, strict=True), (1, 0), strict=True)
    )
    return dataclasses.replace(
        random_lora(), factors={site: Factors(up.astype(np.float32), down.astype(np.float32), 1.0)}
    )


def update(rng, rank, spread=1.0):
    """Orthonormal factors with singular values that fall by `spread`."""
    up = np.linalg.qr(rng.standard_normal((40, rank)))[0] * spread ** np.arange(rank)
    return up, np.linalg.qr(rng.standard_normal((30, rank)))[0].T


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_it_counts_directions_of_one_size(rank) -> None:
    assert directions(of("unet.a", update(np.random.default_rng(0), rank))) == pytest.approx(rank, rel=1e-5)


def test_unequal_directions_count_less() -> None:
    rng = np.random.default_rng(1)
    values = 0.5 ** np.arange(6)
    expected = (values**2).sum() ** 2 / (values**4).sum()
    assert directions(of("unet.a", update(rng, 6, 0.5))) == pytest.approx(expected, rel=1e-5)


def test_factors_and_size_do_not_matter() -> None:
    rng = np.random.default_rng(2)
    up, down = update(rng, 4, 0.7)
    gauge = rng.standard_normal((4, 4)) + 3 * np.eye(4)
    plain = directions(of("unet.a", (up, down)))
    assert directions(of("unet.a", (1e-9 * up @ gauge, np.linalg.inv(gauge) @ down))) == pytest.approx(
        plain, rel=1e-3
    )


def test_several_merged_have_those_of_all_even_at_a_smaller_rank() -> None:
    rng = np.random.default_rng(3)
    parts = [update(rng, 8, 0.5) for _ in range(6)]
    one, merged = directions(of("unet.a", parts[0])), directions(of("unet.a", *parts))
    assert merged > 3 * one
    u, s, vt = np.linalg.svd(sum(up @ down for up, down in parts))
    assert directions(of("unet.a", (u[:, :16] * s[:16], vt[:16]))) > 3 * one


def test_only_updates_of_the_unet_that_are_not_zero_count() -> None:
    rng = np.random.default_rng(4)
    assert directions(of("text_encoder.a", update(rng, 2))) is None
    assert directions(of("unet.a", (np.zeros((40, 2)), np.zeros((2, 30))))) is None
    lora = of("unet.a", update(rng, 3))
    more = {**lora.factors, "unet.b": Factors(np.zeros((4, 1), np.float32), np.ones((1, 4), np.float32), 1.0)}
    assert directions(dataclasses.replace(lora, factors=more)) == pytest.approx(3, rel=1e-5)

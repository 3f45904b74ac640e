"""In how many directions a file changes a module: whatever the factors; many once LoRAs are merged."""

import dataclasses

import numpy as np
import pytest

from loraudit.lora import Factors
from loraudit.lora.directions import directions
from tests.audits import random_lora


def of(site, *updates):
    """A LoRA of one module, the sum of `(up, down)`, side by side."""
    up, down = (
        np.concatenate(side, axis) for side, axis in zip(zip(*updates, strict=True), (1, 0), strict=True)
    )
    return dataclasses.replace(
        random_lora(), factors={site: Factors(up.astype(np.float32), down.astype(np.float32), 1.0)}
    )


def ratio(lora):
    ((_, found),) = directions(lora).values()
    return found


def update(rng, rank, spread=1.0):
    """Orthonormal factors with singular values that fall by `spread`."""
    up = np.linalg.qr(rng.standard_normal((40, rank)))[0] * spread ** np.arange(rank)
    return up, np.linalg.qr(rng.standard_normal((30, rank)))[0].T


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_it_counts_directions_of_one_size(rank) -> None:
    found = directions(of("unet.blocks.0.attn1.to_out.0", update(np.random.default_rng(0), rank)))
    assert found == {"attn1.to_out": (rank, pytest.approx(rank, rel=1e-5))}


def test_unequal_directions_count_less() -> None:
    rng = np.random.default_rng(1)
    values = 0.5 ** np.arange(6)
    expected = (values**2).sum() ** 2 / (values**4).sum()
    assert ratio(of("unet.a", update(rng, 6, 0.5))) == pytest.approx(expected, rel=1e-5)


def test_factors_and_size_do_not_matter() -> None:
    rng = np.random.default_rng(2)
    up, down = update(rng, 4, 0.7)
    gauge = rng.standard_normal((4, 4)) + 3 * np.eye(4)
    plain = directions(of("unet.a", (up, down)))
    other = directions(of("unet.a", (1e-9 * up @ gauge, np.linalg.inv(gauge) @ down)))
    assert other == {"unet.a": pytest.approx(plain["unet.a"], rel=1e-3)}


def test_columns_that_hold_nothing_are_no_rank() -> None:
    rng = np.random.default_rng(5)
    up, down = update(rng, 4, 0.7)
    padded = of("unet.a", (up, down), (np.zeros((40, 8)), rng.standard_normal((8, 30))))
    noise = of("unet.a", (up, down), (1e-5 * rng.standard_normal((40, 8)), update(rng, 8)[1]))
    for lora in (padded, noise):
        assert directions(lora)["unet.a"] == (4, pytest.approx(ratio(of("unet.a", (up, down))), rel=1e-3))


def test_several_merged_have_those_of_all_even_at_a_smaller_rank() -> None:
    rng = np.random.default_rng(3)
    parts = [update(rng, 8, 0.5) for _ in range(6)]
    one, merged = ratio(of("unet.a", parts[0])), ratio(of("unet.a", *parts))
    assert merged > 3 * one
    u, s, vt = np.linalg.svd(sum(up @ down for up, down in parts))
    assert ratio(of("unet.a", (u[:, :16] * s[:16], vt[:16]))) > 3 * one


def test_only_updates_of_the_unet_that_are_not_zero_count() -> None:
    rng = np.random.default_rng(4)
    assert directions(of("text_encoder.a", update(rng, 2))) == {}
    assert directions(of("unet.a", (np.zeros((40, 2)), np.zeros((2, 30))))) == {}
    lora = of("unet.a", update(rng, 3))
    more = {**lora.factors, "unet.b": Factors(np.zeros((4, 1), np.float32), np.ones((1, 4), np.float32), 1.0)}
    assert ratio(dataclasses.replace(lora, factors=more)) == pytest.approx(3, rel=1e-5)


def test_modules_of_one_kind_are_taken_together_and_kinds_apart() -> None:
    rng = np.random.default_rng(6)
    sites = ("unet.down.0.attn2.to_k", "unet.up.1.attn2.to_k", "unet.mid.attn2.to_k", "unet.up.1.attn1.to_k")
    parts = [of(site, update(rng, rank)).factors for site, rank in zip(sites, (2, 3, 7, 5), strict=True)]
    factors = {site: pair for part in parts for site, pair in part.items()}
    found = directions(dataclasses.replace(random_lora(), factors=factors))
    assert {kind: rank for kind, (rank, _) in found.items()} == {"attn1.to_k": 5, "attn2.to_k": 3}
    assert found["attn2.to_k"][1] == pytest.approx(3, rel=1e-5)

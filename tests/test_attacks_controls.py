"""The scrambled LoRA: as large as the file's, and somebody else's."""

import pytest
import torch

from loraudit.attacks.controls import FRAMED, scrambled
from loraudit.base.lowrank import stack
from tests.audits import random_factors, random_lora
from tests.tiny import tiny_base


def updates(terms):
    return {site: up @ down for site, (up, down) in terms.items()}


def cosine(a, b):
    return torch.nn.functional.cosine_similarity(a.flatten(1), b.flatten(1)).abs().max().item()


def test_singular_values_stay_and_the_update_does_not() -> None:
    terms = stack([random_lora(rank=2), random_lora(rank=4, seed=1)])
    control = scrambled(terms, 0)
    assert any(site.startswith("text_encoder.") for site in control)
    assert len(terms) > 1
    for site, update in updates(terms).items():
        other = updates(control)[site]
        values, kept = torch.linalg.svdvals(update), torch.linalg.svdvals(other)
        assert torch.allclose(values, kept, rtol=1e-4, atol=1e-4)
    whole = [torch.cat([u.flatten(1) for u in updates(t).values()], 1) for t in (terms, control)]
    assert cosine(*whole) < 0.1
    assert cosine(whole[0], whole[0]) > 0.99  # the negative control


def test_it_is_a_function_of_the_lora_and_the_seed() -> None:
    first, second = random_lora(rank=2), random_lora(rank=4, seed=1)
    alone, together = scrambled(stack([first]), 3), scrambled(stack([first, second]), 3)
    other = scrambled(stack([first]), 4)
    assert alone
    for site, update in updates(alone).items():
        assert torch.allclose(update[0], updates(together)[site][0], atol=1e-4)
        assert not torch.allclose(update, updates(other)[site], atol=1e-2)


def test_padding_stays_zero_and_sites_are_unlike_each_other() -> None:
    terms = stack([random_lora(rank=2), random_lora(rank=4, seed=1)])
    control = scrambled(terms, 0)
    assert control.keys() == terms.keys() and terms
    for up, down in control.values():
        assert not up[0, :, 2:].any() and not down[0, 2:].any()
        assert up[1, :, 2:].any()
    pairs = [site for site in control if site.endswith("attn1.to_q")]
    frames = [control[site][0][0, :, 0] for site in pairs if control[site][0].shape[1] == 8]
    assert len(frames) > 1
    assert not torch.allclose(frames[0] / frames[0].norm(), frames[1] / frames[1].norm(), atol=1e-2)


def test_a_rank_above_the_sites_size_and_half_precision() -> None:
    base = tiny_base()
    lora = random_lora(base=base, rank=20)  # text tower of width 16, UNet of 8
    assert max(pair.rank for pair in random_factors(base, 20).values()) > 16
    whole = stack([lora], dtype=torch.float16)
    control = scrambled(whole, 0)
    assert control
    for site, update in updates(stack([lora])).items():
        up, down = control[site]
        assert up.dtype == down.dtype == torch.float16
        kept = torch.linalg.svdvals(up.float() @ down.float())
        assert torch.allclose(kept, torch.linalg.svdvals(update), rtol=2e-2, atol=2e-2)


def test_an_empty_update_stays_empty() -> None:
    control = scrambled({"unet.a": (torch.zeros(1, 4, 2), torch.randn(1, 2, 6))}, 0)
    assert not (control["unet.a"][0] @ control["unet.a"][1]).any()


LOW_RANK = (1.8363, -0.6783, 2.8829, 0.4998, -0.8866, -0.487, -1.2711, -1.1143, 2.7848, 1.6744)
"""Factors of a scrambled update, in the first version that had them."""
WIDE = (300, 1000)
"""Sides of a module of full rank; neither is a power of two."""


def full_rank(out: int, in_: int, count: int = 1) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """An update as DoRA leaves it: the whole change beside an identity."""
    noise = torch.Generator().manual_seed(out)
    side = min(out, in_)
    assert side > FRAMED
    change = torch.randn(count, out, side, generator=noise) * torch.linspace(1, 0.01, side)
    return {"unet.a": (change, torch.eye(side, in_).expand(count, -1, -1))}


@pytest.mark.parametrize("shape", [WIDE, WIDE[::-1]])
def test_an_update_of_full_rank_keeps_its_singular_values_too(shape) -> None:
    terms = full_rank(*shape, count=2)
    control = scrambled(terms, 0)
    (update,), (other,) = updates(terms).values(), updates(control).values()
    values, kept = torch.linalg.svdvals(update), torch.linalg.svdvals(other)
    assert torch.allclose(values, kept, rtol=1e-3, atol=1e-4)
    assert cosine(update, other) < 0.02 < cosine(update, update)
    again, seeded = (updates(scrambled(terms, seed))["unet.a"] for seed in (0, 1))
    assert torch.equal(other, again) and cosine(other, seeded) < 0.02
    # The LoRA beside it in the stack does not matter.
    alone = scrambled({site: (up[1:], down[1:]) for site, (up, down) in terms.items()}, 0)
    assert torch.allclose(updates(alone)["unet.a"][0], other[1], atol=1e-4)


def test_a_direction_of_full_rank_may_come_out_anywhere() -> None:
    """Rotated single entries look like Gaussian vectors; unrotated ones, the negative control, do not."""
    up = torch.zeros(1, 1000, 300)
    up[0, :4, :4] = torch.eye(4)
    control, _ = scrambled({"unet.a": (up, torch.eye(300)[None])}, 0)["unet.a"]
    turned, still = control[0, :, :4] * 1000**0.5, up[0, :, :4] * 1000**0.5
    assert torch.allclose(turned.T @ turned / 1000, torch.eye(4), atol=1e-4)
    for column in turned.T:
        assert abs(column.mean()) < 0.15 and column.abs().max() < 5
        assert 2.5 < column.pow(4).mean() < 3.6
    assert still.pow(4).mean() > 100


def test_files_of_low_rank_are_scrambled_as_before() -> None:
    up, down = torch.ones(1, 6, 1), torch.arange(1.0, 5)[None, None]
    left, right = scrambled({"unet.a": (up, down)}, 0)["unet.a"]
    assert torch.allclose(torch.cat([left.flatten(), right.flatten()]), torch.tensor(LOW_RANK), atol=1e-3)

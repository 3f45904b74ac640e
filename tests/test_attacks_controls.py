"""The scrambled LoRA: as large as the file's, and somebody else's."""

import torch

from loraudit.attacks.controls import scrambled
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

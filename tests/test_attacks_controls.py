"""The scrambled LoRA: it moves the model as the file does, and is somebody else's."""

import math

import pytest
import torch

from loraudit.attacks import controls
from loraudit.attacks.controls import as_strong, effort, scrambled
from loraudit.attacks.search.gap import renoised
from loraudit.base.lowrank import scaled, stack
from tests.audits import random_factors, random_lora
from tests.tiny import tiny_base

WIDE = (300, 1000)
"""Sides of a module of full rank; neither is a power of two."""


def updates(terms):
    return {site: up @ down for site, (up, down) in terms.items()}


def cosine(a, b):
    return torch.nn.functional.cosine_similarity(a.flatten(1), b.flatten(1)).abs().max().item()


def test_singular_values_and_inputs_stay_and_the_update_does_not() -> None:
    terms = stack([random_lora(rank=2), random_lora(rank=4, seed=1)])
    control = scrambled(terms, 0)
    assert any(site.startswith("text_encoder.") for site in control)
    assert len(terms) > 1
    for site, update in updates(terms).items():
        other = updates(control)[site]
        # As large a change for every input, so the same inputs matter.
        assert torch.allclose(update.mT @ update, other.mT @ other, rtol=1e-4, atol=1e-3)
        assert not torch.allclose(update @ update.mT, other @ other.mT, atol=1e-2)
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
    same = torch.eye(8)[None], torch.eye(8)[None]
    one, other = (up for up, _ in scrambled({"unet.a": same, "unet.b": same}, 0).values())
    assert not torch.allclose(one, other, atol=1e-2)


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


def full_rank(out: int, in_: int, count: int = 1) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """An update as DoRA leaves it: the whole change beside an identity."""
    noise = torch.Generator().manual_seed(out)
    side = min(out, in_)
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


def test_a_direction_may_come_out_anywhere() -> None:
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


def effects(base, models, embedding, pictures):
    """How far the predictions of each model are from the base's, at pictures noised by another seed."""
    found = []
    for place, model in zip(embedding, models, strict=True):
        x, t = renoised(base, base.encode_images(pictures), 12, torch.Generator().manual_seed(99))
        shared = place.expand(len(x), -1, -1)
        apart = model.epsilon(x, t, shared) - base.epsilon(x, t, shared)
        found.append(apart.square().mean((1, 2, 3)).log().mean().item())
    return found


@torch.no_grad()
@pytest.mark.parametrize("strength", [1.0, 0.25])
def test_a_copy_is_scaled_until_it_moves_the_predictions_as_the_file_does(strength) -> None:
    base, noise = tiny_base(), torch.Generator().manual_seed(0)
    pictures = torch.rand(8, 3, 16, 16, generator=noise)
    terms = stack([random_lora(rank=4, seed=seed) for seed in (3, 4)])
    # One file that is weak, so that no factor suits both.
    terms = {
        site: (up * torch.tensor([0.05, 0.4])[:, None, None], down) for site, (up, down) in terms.items()
    }
    embedding = base.encode_text(["a face", "a human face"])
    copy = as_strong(terms, 0, base, embedding, pictures.expand(2, -1, -1, -1, -1), strength)
    assert not copy.weaker and copy.factors.shape == (2,)

    def alone(many, row, strength=1.0):
        one = {site: (up[row : row + 1], down[row : row + 1]) for site, (up, down) in many.items()}
        return base.with_lora(one, strength)

    rows = range(2)
    file = effects(base, [alone(terms, row, strength) for row in rows], embedding, pictures)
    made = effects(base, [alone(copy.terms, row) for row in rows], embedding, pictures)
    plain = effects(base, [alone(scrambled(terms, 0), row, strength) for row in rows], embedding, pictures)
    twice = effects(base, [alone(scaled(copy.terms, 2), row) for row in rows], embedding, pictures)
    for one, other, unscaled, doubled in zip(file, made, plain, twice, strict=True):
        assert one == pytest.approx(other, abs=0.55)
        # The negative controls: another size is told apart, and so is the size of the file where it differs.
        assert abs(doubled - one) > 0.6
        assert abs(other - one) <= abs(unscaled - one) + 0.1
    # A copy does not depend on the LoRA beside it.
    single = {site: (up[1:], down[1:]) for site, (up, down) in terms.items()}
    again = as_strong(single, 0, base, embedding[1:], pictures[None], strength)
    assert again.factors[0] == pytest.approx(copy.factors[1].item(), rel=1e-2)


def test_an_effect_out_of_reach_is_told(monkeypatch) -> None:
    base = tiny_base()
    terms, embedding = stack([random_lora(rank=4)]), base.encode_text(["a face"])
    pictures = torch.rand(1, 8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    # Scrambled copies that do next to nothing, whatever their size.
    monkeypatch.setattr(controls, "scrambled", lambda terms, _seed: scaled(terms, 1e-9))
    copy = as_strong(terms, 0, base, embedding, pictures)
    assert copy.weaker and copy.factors.item() == pytest.approx(controls.MOST)


def test_a_file_of_nothing_has_a_copy_of_nothing() -> None:
    base = tiny_base()
    terms = scaled(stack([random_lora()]), 0.0)
    pictures = torch.rand(1, 8, 3, 16, 16)
    copy = as_strong(terms, 0, base, base.encode_text(["a face"]), pictures)
    assert not copy.weaker and not any((up @ down).any() for up, down in copy.terms.values())


def test_the_cost_is_counted(monkeypatch) -> None:
    base, seen = tiny_base(), []
    terms, embedding = stack([random_lora()]), base.encode_text(["a face"])
    whole = type(base).epsilon
    monkeypatch.setattr(
        type(base), "epsilon", lambda self, x, *rest: (seen.append(len(x)), whole(self, x, *rest))[1]
    )
    for pictures in (1, 5, 8, 30):
        seen.clear()
        as_strong(terms, 0, base, embedding, torch.rand(1, pictures, 3, 16, 16))
        assert sum(seen) == effort(pictures) > 0
    assert effort(5) < effort(8) == effort(30)
    assert math.isclose(effort(8) / 8, 2)

"""DreamBooth with LoRA: many at once equal one at a time, and stock diffusers sees what we see."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from loraudit.errors import LorauditError
from loraudit.lora.write import write_diffusers
from loraudit.training.finetune import (
    PAPER,
    Recipe,
    Subject,
    _clip,
    class_latents,
    finetune,
    new_adapters,
)
from loraudit.training.finetune import TINY_PRIOR as PRIOR
from tests.tiny import tiny_base, tiny_pipeline

FEW = Recipe(rank=2, unet_alpha=3.0, text_alpha=2.0, lr=1e-2, steps=4, batch=2, class_images=3)


def subjects(count: int) -> list[Subject]:
    shape = (3, *tiny_base().latent_shape)
    return [
        Subject(torch.randn(shape, generator=torch.Generator().manual_seed(i)), f"A face of p{i}.", i)
        for i in range(count)
    ]


def prior() -> torch.Tensor:
    return torch.randn(5, *tiny_base().latent_shape, generator=torch.Generator().manual_seed(99))


def train(people: list[Subject], recipe: Recipe = FEW):
    steps = list(finetune(tiny_base(), people, recipe, prior() if recipe.prior_weight else None))
    return steps[-1][1], torch.stack([loss for _, _, loss in steps])


def test_defaults_are_the_papers() -> None:
    assert (PAPER.rank, PAPER.unet_alpha, PAPER.text_alpha, PAPER.lr) == (16, 27, 17, 1e-4)
    assert PAPER.text_lr is None
    assert (PAPER.steps, PAPER.batch, PAPER.prior_weight, PAPER.class_images) == (1000, 1, 1, 200)
    assert (PAPER.weight_decay, PAPER.max_norm, PAPER.class_prompt) == (0.01, 1.0, "A human face.")


def test_targets_are_the_papers_and_start_as_pefts() -> None:
    adapters = new_adapters(tiny_base(), FEW, [3, 4])
    unet = [site for site in adapters.up if site.startswith("unet.")]
    assert len(unet) == 28 and all(site.endswith(("to_q", "to_v")) for site in unet)
    assert len(adapters.up) - len(unet) == 4  # q and v of two layers
    assert adapters.scale[unet[0]] == 1.5
    for site, down in adapters.down.items():
        assert not adapters.up[site].any()
        assert down.abs().max() <= 1 / math.sqrt(down.shape[2])
        assert not torch.equal(down[0], down[1])
    # The start of a LoRA is a function of its seed alone.
    alone = new_adapters(tiny_base(), FEW, [4])
    assert all(torch.equal(alone.down[site][0], adapters.down[site][1]) for site in adapters.down)


def test_many_at_once_equal_each_alone() -> None:
    """Also the text tower's; and another person's LoRA is another, or equality would say nothing."""
    people = subjects(3)
    together, losses = train(people)
    for index, person in enumerate(people):
        alone, loss = train([person])
        torch.testing.assert_close(losses[:, index], loss[:, 0], rtol=1e-5, atol=1e-5)
        # Adam divides by the gradient's own size, so an entry whose gradient is rounding noise may go its own
        # way. Where a site's gradients are nothing else, its whole update is of about 1e-4; those that do
        # something are above 1e-2.
        own, shared = alone.factors(0), together.factors(index)
        for site in own:
            np.testing.assert_allclose(own[site].delta(), shared[site].delta(), rtol=0, atol=3e-4)
    first, second = together.factors(0), together.factors(1)
    assert max(np.abs(first[s].delta() - second[s].delta()).max() for s in first) > 1e-2


def test_gradients_are_clipped_lora_by_lora() -> None:
    adapters = new_adapters(tiny_base(), FEW, [0, 1, 2])
    for parameter in adapters.parameters:
        parameter.grad = torch.ones_like(parameter)
        parameter.grad[1] *= 1e-6
    small = [p.grad[1].clone() for p in adapters.parameters]
    _clip(adapters, 1.0)
    norms = [math.sqrt(sum(float(p.grad[i].square().sum()) for p in adapters.parameters)) for i in range(3)]
    assert norms[0] == pytest.approx(1.0, rel=1e-4) and norms[2] == pytest.approx(1.0, rel=1e-4)
    # One that is short already is left alone, however long its neighbours are.
    assert all(torch.equal(p.grad[1], before) for p, before in zip(adapters.parameters, small, strict=True))


def test_the_loss_is_instance_plus_weighted_class() -> None:
    """With zero weight the class pictures do not count, and the instance pictures stay the same ones."""
    people = subjects(1)
    _, whole = train(people, replace(FEW, steps=1))
    _, double = train(people, replace(FEW, steps=1, prior_weight=2.0))
    _, tiny = train(people, replace(FEW, steps=1, prior_weight=1e-9))
    torch.testing.assert_close(double[0] - whole[0], whole[0] - tiny[0], rtol=1e-4, atol=1e-5)
    assert whole[0] > tiny[0] > 0


def test_it_learns() -> None:
    """The noise of the training pictures is predicted better after than before."""
    _, losses = train(subjects(2), replace(FEW, steps=40, prior_weight=0.0, lr=2e-2))
    assert losses[-10:].mean() < losses[:10].mean()


def test_the_text_tower_has_a_learning_rate_of_its_own() -> None:
    """AdamW's first step moves an entry by the learning rate at most."""
    slow, _ = train(subjects(1), replace(FEW, steps=1, text_lr=1e-4))
    equal, _ = train(subjects(1), replace(FEW, steps=1))
    for site, up in slow.up.items():
        if site.startswith("text_encoder."):
            assert 0 < up.abs().max() < 1.01e-4
            assert equal.up[site].abs().max() > 1e-3
        else:
            assert torch.equal(up, equal.up[site])


def test_stock_diffusers_sees_the_same_effect(tmp_path) -> None:
    adapters, _ = train(subjects(2), replace(FEW, lr=5e-2))
    factors = adapters.factors(1)
    write_diffusers(factors, tmp_path / "lora.safetensors")
    pipeline = tiny_pipeline()
    pipeline.load_lora_weights(tmp_path, weight_name="lora.safetensors")

    base = tiny_base()
    terms = {
        site: (torch.from_numpy(f.up)[None], torch.from_numpy(f.down)[None]) for site, f in factors.items()
    }
    x = torch.randn(2, *base.latent_shape, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([900, 30])
    ids = base.token_ids(["a face of p1.", "a human face."])
    with torch.no_grad():
        plain = base.epsilon(x, t, base.encode_text(["a face of p1.", "a human face."]))
        tuned = base.with_lora(terms)
        text = tuned.encode_text(["a face of p1.", "a human face."])
        ours = tuned.epsilon(x, t, text)
        stock_text = pipeline.text_encoder(ids).last_hidden_state
        stock = pipeline.unet(x, t, stock_text).sample
        plain_text = base.encode_text(["a face of p1.", "a human face."])
    torch.testing.assert_close(stock_text, text, rtol=0, atol=1e-4)
    torch.testing.assert_close(stock, ours, rtol=0, atol=1e-4)
    assert (text - plain_text).abs().max() > 1e-2 and (ours - plain).abs().max() > 1e-2


def test_without_the_text_tower() -> None:
    adapters, _ = train(subjects(1), replace(FEW, text_targets=(), steps=2))
    assert all(site.startswith("unet.") for site in adapters.up)


def test_convolutions_and_names_with_a_dot() -> None:
    recipe = replace(FEW, unet_targets=("to_out.0", "conv1"), text_targets=(), steps=3)
    adapters, _ = train(subjects(2), recipe)
    conv = adapters.down["unet.down_blocks.0.resnets.0.conv1"]
    assert conv.shape == (2, 2, 8 * 9) and adapters.up["unet.down_blocks.0.resnets.0.conv1"].abs().max() > 0


def test_class_pictures_do_not_depend_on_the_batch() -> None:
    one = class_latents(tiny_base(), FEW, 1, replace(PRIOR, steps=2))
    three = class_latents(tiny_base(), FEW, 3, replace(PRIOR, steps=2))
    assert three.shape == (3, *tiny_base().latent_shape)
    torch.testing.assert_close(one[0], three[0], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(three[0], three[1], atol=1e-2)


def test_a_needed_prior_is_missed() -> None:
    with pytest.raises(ValueError, match="class latents"):
        next(finetune(tiny_base(), subjects(1), FEW, None))


def test_no_such_target() -> None:
    with pytest.raises(LorauditError, match="no module called to_x"):
        new_adapters(tiny_base(), replace(FEW, unet_targets=("to_x",), text_targets=()), [0])


def test_divergence_is_said() -> None:
    person = replace(subjects(1)[0], latents=torch.full((1, *tiny_base().latent_shape), math.nan))
    with pytest.raises(LorauditError, match="diverged at step 1"):
        train([person])


@pytest.mark.parametrize(
    "change", [{"rank": 0}, {"steps": 0}, {"batch": -1}, {"lr": 0.0}, {"text_lr": math.nan}]
)
def test_senseless_numbers(change) -> None:
    with pytest.raises(LorauditError):
        replace(FEW, **change)

"""A base with LoRAs: what merged weights give, while the base beside it stays as it is."""

import dataclasses

import pytest
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler

from loraudit.attacks.controls import scrambled
from loraudit.attacks.guidance import ModelGuidance
from loraudit.base.lowrank import stack
from loraudit.base.model import Sampling
from loraudit.base.passes import (
    CLASS_PICTURES,
    DECODED,
    DECODED_PICTURES,
    DIFFERENTIATED,
    KEEPS_BUSY,
    PREDICTED,
    samples_a_pass,
)
from loraudit.base.schedule import SCHEDULE, pure_noise, signal_variance
from loraudit.errors import NotScannable
from loraudit.lora import write_diffusers
from tests.audits import random_factors, random_lora
from tests.tiny import tiny_base, tiny_pipeline

PROMPTS = ["a face of zwqkx.", "A human face."]
SETTINGS = Sampling(4, 3.0)
SEEDS = (5, 6)
ENDS = ("to_q", "to_k", "to_v", "to_out.0", "q_proj", "v_proj", "fc1")


@torch.no_grad()
def told(model, embedding=None):
    """What a base says: texts, mixed tokens, noise, pictures."""
    x = torch.randn(2, *model.latent_shape, generator=torch.Generator().manual_seed(1))
    text = model.encode_text(PROMPTS)
    embedding = text if embedding is None else embedding
    tokens = model.token_table[model.token_ids(PROMPTS)].flip(1)
    return {
        "text": text,
        "tokens": model.encode_tokens(tokens),
        "noise": model.epsilon(x, torch.tensor([900, 30]), embedding),
        "pictures": model.sample(embedding[:1], SEEDS, SETTINGS),
    }


def same(one, other) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def hooks(base) -> int:
    """Count the hooks of terms; transformers leaves some of its own where hidden states were asked for."""
    found = [hook for module in base.modules().values() for hook in module._forward_hooks.values()]
    return sum(hook.__module__ == "loraudit.base.lowrank" for hook in found)


def two():
    return [random_lora(seed=seed) for seed in (0, 1)]


@pytest.fixture(scope="module")
def plain():
    return told(tiny_base())


def test_it_is_what_diffusers_gives_with_merged_weights(tmp_path, plain) -> None:
    factors = random_factors(tiny_base(), ends=ENDS)
    write_diffusers(factors, tmp_path / "lora.safetensors")
    pipeline = tiny_pipeline()
    pipeline.load_lora_weights(tmp_path, weight_name="lora.safetensors")
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    merged = {"unet": pipeline.unet, "text_encoder": pipeline.text_encoder}
    tuned = tiny_base().with_lora(dataclasses.replace(random_lora(), factors=factors))
    ours = told(tuned)
    stock = told(dataclasses.replace(tiny_base(), **merged))
    for name, values in ours.items():
        torch.testing.assert_close(values, stock[name], rtol=0, atol=1e-3)
        assert (values - plain[name]).abs().max() > 1e-2, "the control: it is not the base"
    # And by diffusers' own loop.
    pipeline.scheduler = DPMSolverMultistepScheduler(**SCHEDULE, algorithm_type="dpmsolver++", steps_offset=1)
    drawn = pipeline(
        [PROMPTS[0]] * len(SEEDS),
        negative_prompt=[SETTINGS.negative] * len(SEEDS),
        num_inference_steps=SETTINGS.steps,
        guidance_scale=SETTINGS.guidance,
        latents=pure_noise(SEEDS, tuned.latent_shape),
        output_type="pt",
    ).images
    torch.testing.assert_close(ours["pictures"], drawn, rtol=0, atol=1e-3)


def test_the_base_beside_it_stays_as_it_is(plain) -> None:
    base = tiny_base()
    state = [value.clone() for part in (base.unet, base.text_encoder) for value in part.state_dict().values()]
    tuned = base.with_lora(random_lora())
    assert same(told(base), plain)
    first = told(tuned)
    assert same(told(base), plain) and same(told(tuned), first) and same(told(base), plain)
    assert not any(torch.equal(first[name], plain[name]) for name in plain)
    after = [value for part in (base.unet, base.text_encoder) for value in part.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(state, after, strict=True))
    assert tuned.unet is base.unet and hooks(base) == 0


def test_two_of_one_base_are_used_in_turn() -> None:
    base = tiny_base()
    alone = [told(base.with_lora(lora)) for lora in two()]
    first, second = (base.with_lora(lora) for lora in two())
    for _ in range(2):
        assert same(told(first), alone[0]) and same(told(second), alone[1])
    assert not same(*alone)


def test_a_pass_that_breaks_leaves_no_trace(plain) -> None:
    base = tiny_base()
    tuned = base.with_lora(stack(two()))
    with pytest.raises(ValueError, match="3 samples cannot be shared evenly by 2 LoRAs"):
        tuned.encode_text(["a"] * 3)
    for way in (tuned, ModelGuidance(tuned, base)):
        with pytest.raises(ValueError, match="1 embeddings cannot be shared evenly by 2 LoRAs"):
            way.sample(plain["text"][:1], (0, 1), SETTINGS)
    assert hooks(base) == 0 and same(told(base), plain)


def test_no_lora_is_the_base(plain) -> None:
    base, lora = tiny_base(), random_lora()
    assert base.with_lora({}) is base and base.loras == 0
    tuned = base.with_lora(lora)
    assert tuned.loras == 1 and base.loras == 0 and not base.terms
    # Another LoRA takes the place of the one before.
    back, other = tuned.with_lora({}), tuned.with_lora(random_lora(seed=1))
    assert back.loras == 0 and same(told(back), plain)
    assert same(told(other), told(base.with_lora(random_lora(seed=1))))
    assert same(told(tuned), told(base.with_lora(stack([lora]))))


def test_strength_is_a_factor_of_the_update() -> None:
    base, lora = tiny_base(), random_lora()
    halved = {site: dataclasses.replace(pair, up=0.5 * pair.up) for site, pair in lora.factors.items()}
    half = told(base.with_lora(lora, 0.5))
    assert same(half, told(base.with_lora(dataclasses.replace(lora, factors=halved))))
    assert not same(half, told(base.with_lora(lora)))


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("against_base", [False, True])
@torch.no_grad()
def test_many_in_one_pass_are_those_of_each(guidance, against_base) -> None:
    base, settings = tiny_base(), Sampling(3, guidance)

    def drawn(loras, embedding):
        tuned = base.with_lora(stack(loras))
        assert tuned.loras == len(loras)
        way = ModelGuidance(tuned, base) if against_base else tuned
        return way.sample(embedding, SEEDS, settings)

    embedding = base.encode_text(PROMPTS)
    together = drawn(two(), embedding).unflatten(0, (2, len(SEEDS)))
    for row, lora in enumerate(two()):
        torch.testing.assert_close(together[row], drawn([lora], embedding[row : row + 1]), rtol=0, atol=1e-4)
    assert not torch.allclose(together[0], drawn(two()[1:], embedding[:1]), atol=1e-3)
    # One LoRA takes any number of embeddings.
    several = drawn(two()[:1], embedding).unflatten(0, (2, len(SEEDS)))
    torch.testing.assert_close(several[0], together[0], rtol=0, atol=1e-4)


def test_gradients_flow_to_the_terms() -> None:
    """Of both towers, as finite differences say; none stay in the base."""
    base = tiny_base()
    terms = {
        site: tuple(matrix.requires_grad_() for matrix in pair)
        for site, pair in stack([random_lora(seed=seed) for seed in (0, 1)]).items()
    }
    x = torch.randn(4, *base.latent_shape, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([900, 30, 500, 200])

    def loss(given):
        tuned = base.with_lora(given)
        prediction = tuned.epsilon(x, t, tuned.encode_text(["a face"] * 4))
        return prediction.double().square().mean()

    flat = [matrix for pair in terms.values() for matrix in pair]
    slopes = torch.autograd.grad(loss(terms), flat)
    for site, up, down in zip(terms, slopes[::2], slopes[1::2], strict=True):
        # Attention over one position alone does not ask.
        lone = site.startswith("unet.mid_block") and site.endswith("attn1.to_q")
        assert lone or all(slope[row].any() for slope in (up, down) for row in (0, 1))
    step = 1e-3 / torch.cat([slope.flatten() for slope in slopes]).norm()
    expected = sum(slope.square().sum() for slope in slopes) * step
    with torch.no_grad():
        ends = []
        for sign in (1, -1):
            moved = iter([matrix + sign * step * slope for matrix, slope in zip(flat, slopes, strict=True)])
            ends.append(loss({site: (next(moved), next(moved)) for site in terms}))
    assert float(ends[0] - ends[1]) / 2 == pytest.approx(float(expected), rel=0.02)
    weights = [p for part in (base.unet, base.text_encoder) for p in part.parameters()]
    assert all(p.grad is None and not p.requires_grad for p in weights)


@pytest.mark.parametrize("kind", ["no such module", "another shape", "no weight of its own"])
def test_a_lora_that_does_not_fit_is_refused_at_once(kind) -> None:
    base, terms = tiny_base(), stack([random_lora()])
    site, (up, down) = next(item for item in terms.items() if item[0].startswith("unet."))
    wrong = {
        "no such module": {site.replace("down_blocks.0", "down_blocks.7"): (up, down)},
        "another shape": {site: (up, down[:, :, 1:])},
        "no weight of its own": {"unet.conv_norm_out": (up, down)},
    }[kind]
    with pytest.raises(NotScannable, match="does not fit this base"):
        base.with_lora({**terms, **wrong})
    assert base.with_lora(terms).loras == 1 and hooks(base) == 0


def test_a_control_is_another_lora_of_the_same_base() -> None:
    base = tiny_base()
    tuned = base.with_lora(random_lora())
    control = base.with_lora(scrambled(tuned.terms, 0))
    assert control.terms.keys() == tuned.terms.keys()
    assert not same(told(control), told(tuned))


def test_model_guidance_of_nothing_is_classifier_free_guidance_of_the_base() -> None:
    base = tiny_base()
    embedding = base.encode_text(PROMPTS[:1]).detach()
    own = base.sample(embedding, SEEDS, SETTINGS)
    torch.testing.assert_close(
        ModelGuidance(base, base).sample(embedding, SEEDS, SETTINGS), own, rtol=0, atol=1e-4
    )
    tuned = base.with_lora(random_lora())
    assert not torch.allclose(ModelGuidance(tuned, base).sample(embedding, SEEDS, SETTINGS), own, atol=1e-2)


@pytest.mark.parametrize(
    ("side", "sizes"),
    [(8, (16, 256, 16, 64, 32)), (64, (1, 4, 1, 1, 4)), (4, (64, 1024, 64, 64, 32)), (128, (1, 1, 1, 1, 1))],
)
def test_samples_a_pass(side, sizes) -> None:
    """Of pictures of 64 pixels, 512, 32 and 1024; the decoder and the class pictures are capped."""
    rules = ((DIFFERENTIATED, None), (PREDICTED, None), (KEEPS_BUSY, None))
    rules += ((DECODED, DECODED_PICTURES), (PREDICTED, CLASS_PICTURES))
    assert tuple(samples_a_pass((4, side, side), *rule) for rule in rules) == sizes


def test_the_schedule_is_diffusers() -> None:
    torch.testing.assert_close(
        signal_variance(), DDPMScheduler(**SCHEDULE).alphas_cumprod, rtol=1e-4, atol=1e-7
    )
    first, second = pure_noise((3, 4), (2, 2)), pure_noise((4,), (2, 2))
    assert torch.equal(first[1], second[0]) and not torch.equal(first[0], first[1])


@torch.no_grad()
def test_an_earlier_layer_of_the_text_tower_is_a_tower_without_the_last() -> None:
    shorter, base = tiny_pipeline().text_encoder, tiny_base()
    shorter.encoder.layers = shorter.encoder.layers[:-1]
    last, skipping = base.encode_text(PROMPTS), base.skipping(2)
    earlier = shorter(base.token_ids(PROMPTS)).last_hidden_state
    assert torch.allclose(skipping.encode_text(PROMPTS), earlier, atol=1e-6)
    assert not torch.allclose(earlier, last, atol=1e-2)
    for same_layer in (None, 0, 1, 3, 12):
        assert torch.equal(base.skipping(same_layer).encode_text(PROMPTS), last)
    # With a LoRA, by token embeddings, and back at the last layer.
    tuned = skipping.with_lora(random_lora())
    assert not torch.allclose(tuned.encode_text(PROMPTS), earlier, atol=1e-4)
    tokens = base.token_table[base.token_ids(PROMPTS)]
    assert torch.allclose(skipping.encode_tokens(tokens), earlier, atol=1e-6)
    assert torch.equal(skipping.skipping(1).encode_text(PROMPTS), last)

"""The paper's matrix encoder: the grouped form is the published one, and every part of the input counts."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from loraudit.encoder import (
    PaperEncoder,
    PaperEncoderConfig,
    frozen_transformer,
    kl,
    reparameterise,
    stack_loras,
)
from loraudit.encoder.stacks import ConvStacks
from loraudit.lora import Factors, LoRA, LoRAFile

SITES = (
    ("unet.a.attn1.to_q", 24, 16),
    ("unet.a.attn1.to_v", 24, 24),
    ("unet.a.attn2.to_v", 16, 40),
)
RANK = 4
WIDTH = 16


@pytest.fixture(autouse=True)
def _torch_seed():
    torch.manual_seed(0)


@pytest.fixture
def text_model():
    model = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=8,
            hidden_size=WIDTH,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=8,
            bos_token_id=0,
            eos_token_id=1,
        )
    )
    # Larger than CLIP's own initialisation, whose attention is flat.
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.fixture
def frozen(text_model):
    return frozen_transformer(text_model)


@pytest.fixture
def encoder(frozen):
    config = PaperEncoderConfig(SITES, RANK, length=6, text=frozen.shape, timestep=True, max_steps=100)
    return PaperEncoder(config, frozen)


def random_matrices(count=3, dtype=torch.float32):
    return {
        site: (
            torch.randn(count, out, RANK, dtype=dtype) * 0.1 + 0.02,
            torch.randn(count, RANK, in_, dtype=dtype) * 0.5,
        )
        for site, out, in_ in SITES
    }


@pytest.mark.parametrize("count", [1, 5])
def test_grouped_stacks_equal_the_published_ones(encoder, count):
    matrices = random_matrices(count)
    alone = encoder.one_by_one()
    published = torch.stack(
        [stack(signal) for stack, signal in zip(alone, encoder.signals(matrices), strict=True)], 1
    )
    assert torch.allclose(encoder.read(matrices), published, rtol=0, atol=1e-5)
    swapped = torch.stack(
        [alone[i ^ 1](signal) for i, signal in enumerate(encoder.signals(matrices)[2:4], start=2)], 1
    )
    assert not torch.allclose(swapped, published[:, 2:4], atol=1e-2)


def test_a_published_stack_is_eight_convolutions_of_kernel_3():
    layers = list(ConvStacks(2, RANK, 12, 5).one(1))
    convs = [layer for layer in layers if isinstance(layer, nn.Conv1d)]
    assert [conv.out_channels for conv in convs] == [RANK] * 7 + [1]
    assert {(conv.in_channels, conv.kernel_size, conv.stride, conv.padding) for conv in convs} == {
        (RANK, (3,), (1,), (1,))
    }
    kinds = [type(layer) for layer in layers]
    assert kinds == [nn.InstanceNorm1d, nn.Conv1d, nn.LeakyReLU] * 7 + [
        nn.InstanceNorm1d,
        nn.Conv1d,
        nn.Tanh,
        nn.Flatten,
        nn.Linear,
    ]


def test_gradients_equal_the_published_ones():
    stacks = ConvStacks(3, RANK, 12, 5).double()
    signals = torch.randn(3, 2, RANK, 12, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(3, 2, 5, dtype=torch.float64)
    (stacks(torch.cat(list(signals), dim=1)) * weights).sum().backward()
    for index in range(3):
        alone = stacks.one(index).double()
        signal = signals.detach()[index].requires_grad_()
        (alone(signal) * weights[index]).sum().backward()
        first, last, linear = alone[1], alone[22], alone[-1]
        assert torch.allclose(signals.grad[index], signal.grad, atol=1e-10)
        assert torch.allclose(stacks.hidden_weight.grad[0, index], first.weight.grad, atol=1e-10)
        assert torch.allclose(stacks.last_bias.grad[index], last.bias.grad, atol=1e-10)
        assert torch.allclose(stacks.linear_weight.grad[index].T, linear.weight.grad, atol=1e-10)


def test_shapes(encoder):
    mean, logvar = encoder(random_matrices(3), torch.tensor([1, 50, 100]))
    assert mean.shape == logvar.shape == (3, 6, WIDTH)


def test_a_lora_is_read_alone_as_in_a_batch(encoder):
    matrices = random_matrices(3)
    second = {site: (up[1:2], down[1:2]) for site, (up, down) in matrices.items()}
    assert torch.allclose(encoder(second)[0][0], encoder(matrices)[0][1], atol=1e-5)


@pytest.mark.parametrize("which", [0, 1], ids=["up", "down"])
@pytest.mark.parametrize("site", [site for site, _, _ in SITES])
def test_every_matrix_moves_the_embedding(encoder, site, which):
    matrices = random_matrices()
    changed = {name: [*pair] for name, pair in matrices.items()}
    changed[site][which] = torch.randn_like(changed[site][which])
    before, after = encoder(matrices)[0], encoder(changed)[0]
    assert (before - after).abs().max() > 1e-3
    foreign = {**matrices, "unet.other.to_k": (torch.randn(3, 8, RANK), torch.randn(3, RANK, 8))}
    assert torch.equal(before, encoder(foreign)[0])


def test_the_fine_tuning_step_moves_the_embedding_only_if_there_is_a_token_for_it(encoder, frozen):
    matrices = random_matrices(1)
    early, late = torch.tensor([1]), torch.tensor([100])
    assert (encoder(matrices, early)[0] - encoder(matrices, late)[0]).abs().max() > 1e-3
    assert torch.equal(encoder(matrices)[0], encoder(matrices, late)[0])
    without = PaperEncoder(replace(encoder.config, timestep=False), frozen)
    assert torch.equal(without(matrices, early)[0], without(matrices, late)[0])
    assert not [name for name in without.own_state() if name.startswith("step")]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_every_position_sees_every_other(text_model, attention):
    text_model.set_attn_implementation(attention)
    frozen = frozen_transformer(text_model)
    x = torch.randn(1, 5, WIDTH)
    y = x.clone()
    y[:, -1] = torch.randn(WIDTH)
    assert (frozen(x)[:, 0] - frozen(y)[:, 0]).abs().max() > 1e-3
    # Through the text model's own forward the mask is causal, and the first position cannot see the last.
    ids = torch.tensor([[2, 3, 4, 5, 1], [2, 3, 4, 6, 1]])
    hidden = text_model(ids).last_hidden_state
    assert torch.allclose(hidden[0, :3], hidden[1, :3], atol=1e-6)
    assert not torch.allclose(hidden[0, 3:], hidden[1, 3:], atol=1e-3)


def test_the_frozen_transformer_is_that_of_the_text_model_without_mask_and_positions(text_model, frozen):
    hidden = x = torch.randn(2, 5, WIDTH)
    for layer in text_model.encoder.layers:
        mask = torch.zeros(1, 1, 5, 5)
        hidden = layer(hidden, attention_mask=mask)
    assert torch.allclose(frozen(x), text_model.final_layer_norm(hidden), atol=1e-5)


def test_the_frozen_transformer_is_a_copy(text_model, frozen):
    x = torch.randn(1, 4, WIDTH)
    before, fingerprint = frozen(x), frozen.fingerprint()
    with torch.no_grad():
        text_model.encoder.layers[0].mlp.fc1.weight.mul_(1.5)
    assert torch.equal(frozen(x), before)
    assert frozen.fingerprint() == fingerprint != frozen_transformer(text_model).fingerprint()


def test_the_fingerprint_does_not_depend_on_the_precision_of_the_base(text_model):
    whole = frozen_transformer(text_model).fingerprint()
    assert frozen_transformer(text_model.half()).fingerprint() == whole


def test_gradients_reach_everything_but_the_frozen_transformer(encoder):
    encoder.train()
    mean, logvar = encoder(random_matrices(), torch.tensor([1, 2, 3]))
    z = reparameterise(mean, logvar, torch.Generator().manual_seed(0))
    (z.square().sum() + kl(mean, logvar).sum()).backward()
    trained = dict(encoder.named_parameters())
    frozen = {name for name in trained if name.startswith("frozen.")}
    assert frozen
    assert all(trained[name].grad is None and not trained[name].requires_grad for name in frozen)
    for name in set(trained) - frozen:
        # One entry at least for each stack of a stacked parameter.
        assert trained[name].grad.abs().sum() > 0, name
    assert not encoder.frozen.training


def test_a_hardly_trained_lora_gives_finite_gradients(encoder):
    matrices = {site: (torch.zeros_like(up), down) for site, (up, down) in random_matrices().items()}
    mean, logvar = encoder(matrices)
    (mean.square().sum() + logvar.sum()).backward()
    trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    assert all(parameter.grad.isfinite().all() for parameter in trained)


def test_kl_is_zero_for_the_unit_gaussian_alone():
    zero = torch.zeros(2, 3, 4)
    assert torch.equal(kl(zero, zero), torch.zeros(2))
    for mean, logvar in [(zero + 0.1, zero), (zero, zero + 0.1), (zero, zero - 0.1)]:
        assert (kl(mean, logvar) > 0).all()
    mean, logvar = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    gaussian = torch.distributions.Normal(mean, (0.5 * logvar).exp())
    unit = torch.distributions.Normal(zero, zero + 1)
    expected = torch.distributions.kl_divergence(gaussian, unit).sum(dim=(1, 2))
    assert torch.allclose(kl(mean, logvar), expected, rtol=1e-5)


def test_reparameterisation_draws_from_the_gaussian_of_its_seed():
    mean, logvar = torch.full((1, 1, 20000), 3.0), torch.full((1, 1, 20000), math.log(4.0))
    first, again, other = (
        reparameterise(mean, logvar, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert abs(first.mean() - 3) < 0.06
    assert abs(first.std() - 2) < 0.06


def test_config_survives_json(encoder):
    values = encoder.config.to_json()
    assert PaperEncoderConfig.from_json(values) == encoder.config
    broken = [
        None,
        {**values, "rank": "4"},
        {**values, "rank": True},
        {**values, "extra": 1},
        {**values, "text": {}},
        {**values, "sites": [["a", 8]]},
        {**values, "sites": [["a", 8, 8], ["a", 8, 8]]},
        {**values, "sites": []},
        {**values, "rank": 0},
        {**values, "length": 9},
        {key: value for key, value in values.items() if key != "length"},
    ]
    for bad in broken:
        with pytest.raises(ValueError, match=r"."):
            PaperEncoderConfig.from_json(bad)


def test_wrong_input_is_refused(encoder):
    matrices = random_matrices()
    site = SITES[0][0]
    with pytest.raises(ValueError, match="no matrices for unet"):
        encoder({name: pair for name, pair in matrices.items() if name != site})
    up, down = matrices[site]
    with pytest.raises(ValueError, match="not rank 4"):
        encoder({**matrices, site: (up[..., :3], down[:, :3])})
    with pytest.raises(ValueError, match="text transformer"):
        PaperEncoder(replace(encoder.config, text=replace(encoder.config.text, layers=3)), encoder.frozen)


def test_loras_stack_into_matrices(tmp_path):
    rng = np.random.default_rng(0)

    def lora(rank):
        factors = {
            site: Factors(
                rng.standard_normal((out, rank), dtype=np.float32),
                rng.standard_normal((rank, in_), dtype=np.float32),
                1.0,
            )
            for site, out, in_ in SITES
        }
        file = LoRAFile("x.safetensors", tmp_path / "x.safetensors", "", 0, {})
        return LoRA(file, "tiny", "tiny", "diffusers", factors, ())

    loras, sites = [lora(RANK), lora(RANK)], [site for site, _, _ in SITES]
    matrices = stack_loras(loras, sites, RANK)
    for site, out, in_ in SITES:
        up, down = matrices[site]
        assert (up.shape, down.shape) == ((2, out, RANK), (2, RANK, in_))
        assert np.array_equal(up[1].numpy(), loras[1].factors[site].up)
    with pytest.raises(ValueError, match="of rank 4"):
        stack_loras([lora(3)], sites, RANK)
    with pytest.raises(ValueError, match="has no unet"):
        stack_loras(loras, ["unet.z"], RANK)

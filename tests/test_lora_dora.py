"""DoRA has the effect it has where it was made once the base's weights are at hand, and is unread before."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.utils.state_dict_utils import convert_state_dict_to_kohya
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, inject_adapter_in_model
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from benchmarks.tables import layouts
from loraudit.base.lowrank import attached, beside, stack
from loraudit.errors import NotScannable
from loraudit.lora import Factors, LoRA, export_lora, load_lora
from loraudit.lora.dora import NEEDS_BASE, resolve
from tests.test_lora_lycoris import drawn, lycoris
from tests.test_lora_stock import text_encoder, unet

TARGETS = ["attn1.to_q", "attn2.to_k", "proj_in", "conv1", "ff.net.2"]
"""Linear layers square and not, convolutions of both kernels."""
LINEAR = "unet.mid_block.attentions.0.transformer_blocks.0.ff.net.2"
CONVOLUTION = "unet.mid_block.resnets.0.conv1"


def weights(network: UNet2DConditionModel) -> dict[str, np.ndarray]:
    return {
        f"unet.{name.removesuffix('.weight')}": value.numpy()
        for name, value in network.state_dict().items()
        if name.endswith(".weight")
    }


def direction(lora: LoRA) -> dict[str, Factors]:
    """The update as it would be without the magnitude."""
    return {site: module.factors for site, module in lora.dora.items()}


def peft_dora() -> torch.nn.Module:
    config = LoraConfig(
        r=3,
        lora_alpha=7,
        use_dora=True,
        target_modules=TARGETS,
        alpha_pattern={"proj_in": 2},
        use_rslora=True,
    )
    network = get_peft_model(unet(), config).eval()
    torch.manual_seed(2)
    for name, parameter in network.named_parameters():
        if "magnitude" in name:
            parameter.data.mul_(torch.rand_like(parameter) + 0.5)
        elif "lora_" in name:
            parameter.data.normal_(std=0.1)
    return network


@pytest.mark.parametrize("how", ["folder", "raw"])
def test_peft(how: str, tmp_path: Path) -> None:
    """Its own merged weights, of every module, and its own prediction by the terms beside the base."""
    network = peft_dora()
    if how == "folder":
        network.save_pretrained(str(tmp_path))
    else:
        save_torch(network.state_dict(), tmp_path / "x.safetensors")
        (tmp_path / "adapter_config.json").write_text(
            json.dumps(network.peft_config["default"].to_dict(), default=str)
        )
    lora = load_lora(tmp_path)
    base = weights(unet())
    predicted = drawn(network)
    merged = weights(network.merge_and_unload())
    changed = {site for site, weight in merged.items() if not np.array_equal(weight, base[site])}
    assert lora.factors == {}
    assert set(lora.dora) == changed
    resolved = resolve(lora, base)
    assert (set(resolved.factors), resolved.dora) == (changed, {})
    assert NEEDS_BASE not in {item.why for item in resolved.unread}
    for site in changed:
        update = (merged[site] - base[site]).reshape(len(base[site]), -1)
        np.testing.assert_allclose(resolved.factors[site].delta(), update, atol=1e-5)
        # The control.
        assert np.abs(direction(lora)[site].delta() - update).max() > 1e-2
    plain = unet()
    modules = {f"unet.{name}": module for name, module in plain.named_modules()}
    with attached(beside(modules, stack([resolved]))):
        ours = drawn(plain)
    change = (predicted - drawn(plain)).abs().max()
    assert change > 0.01
    assert (ours - predicted).abs().max() < 1e-4 * change


def test_what_diffusers_converts_to_kohya(tmp_path: Path) -> None:
    """It leaves a dot in the path before the magnitude: `lora_unet_..._attn1.to_q.lora_magnitude_vector`."""
    network, text = unet(), text_encoder()
    for model, targets in ((network, [*TARGETS, "to_out.0"]), (text, ["q_proj"])):
        inject_adapter_in_model(LoraConfig(r=3, lora_alpha=3, use_dora=True, target_modules=targets), model)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data.normal_(std=0.1)
    parts = {"unet": network, "text_encoder": text}
    tensors = convert_state_dict_to_kohya(
        {f"{part}.{key}": value for part, model in parts.items() for key, value in state(model).items()}
    )
    save_torch(tensors, tmp_path / "x.safetensors")
    odd = [key for key in tensors if key.partition(".")[2].count(".") and "magnitude" in key]
    assert odd and len(odd) == sum("magnitude" in key for key in tensors)
    lora = load_lora(tmp_path / "x.safetensors")
    assert (lora.dialect, lora.factors, len(lora.dora)) == ("kohya", {}, len(odd))
    magnitudes = {
        f"{part}.{key.removesuffix('.lora_magnitude_vector').removeprefix('text_model.')}": value.numpy()
        for part, model in parts.items()
        for key, value in state(model).items()
        if "magnitude" in key
    }
    assert set(lora.dora) == set(magnitudes)
    for site, module in lora.dora.items():
        assert (module.axis, np.array_equal(module.magnitude.ravel(), magnitudes[site].ravel())) == (0, True)
    # A suffix that nobody knows in such a place leaves the module out as well.
    save_torch(
        {key.replace("vector", "matrix"): value for key, value in tensors.items()}, tmp_path / "x.safetensors"
    )
    with pytest.raises(NotScannable, match="more than a plain LoRA pair"):
        load_lora(tmp_path / "x.safetensors")


def state(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.contiguous() for key, value in get_peft_model_state_dict(network).items()}


@pytest.mark.parametrize("by_output", [True, False])
@pytest.mark.parametrize(
    "settings",
    [
        {"network_module": "locon"},
        {"network_module": "locon", "use_tucker": True},
        # Where LyCORIS 4.1.3 merges these, but not where it runs them, the scale counts twice: here it is 1.
        {"network_module": "loha", "alpha": 4, "conv_alpha": 5},
        {"network_module": "lokr", "alpha": 4, "conv_alpha": 5},
    ],
    ids=lambda settings: " ".join(map(str, settings.values())),
)
def test_lycoris(settings: dict, by_output: bool, tmp_path: Path, monkeypatch) -> None:
    """Its own merged weights, with the norms of the outputs and of the inputs."""
    network = unet()
    base = weights(network)
    adapter = lycoris(network, monkeypatch, "lycoris", weight_decompose=True, wd_on_out=by_output, **settings)
    adapter.apply_to()
    adapter.save_weights(str(tmp_path / "x.safetensors"), None, {})
    lora = load_lora(tmp_path / "x.safetensors")
    assert {module.axis for module in lora.dora.values()} == {0 if by_output else 1}
    assert (lora.factors, len(lora.dora)) == ({}, len(adapter.loras))
    sites = [next(site for site in lora.dora if site.endswith(target)) for target in TARGETS]
    lora = dataclasses.replace(lora, dora={site: lora.dora[site] for site in sites})
    resolved = resolve(lora, base)
    layers = {layer.lora_name: layer for layer in adapter.loras}
    for site in sites:
        layer = layers[f"lycoris_{site.removeprefix('unet.').replace('.', '_')}"]
        merged = layer.get_merged_weight(shape=base[site].shape)[0].detach().numpy()
        update = (merged - base[site]).reshape(len(merged), -1)
        np.testing.assert_allclose(resolved.factors[site].delta(), update, rtol=1e-4, atol=1e-4)
        # The control.
        assert np.abs(direction(lora)[site].delta() - update).max() > 1e-2
    square = sites[0]
    turned = dataclasses.replace(lora.dora[square], axis=1 - lora.dora[square].axis)
    wrong = resolve(dataclasses.replace(lora, dora={square: turned}), base).factors[square]
    assert np.abs(wrong.delta() - resolved.factors[square].delta()).max() > 1e-2


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("site", [LINEAR, CONVOLUTION])
def test_onetrainer(site: str, axis: int, make_factors, rng: np.random.Generator, tmp_path: Path) -> None:
    """Channel by channel, by the formula. OneTrainer's default is the norm of the inputs, `[1, in]`."""
    W = weights(unet())[site]
    factors = make_factors("tiny", [site])
    shape = [1] * W.ndim
    shape[axis] = W.shape[axis]
    m = rng.uniform(0.5, 2, shape).astype(np.float32)
    start = layouts.k1(site)[0]
    save_file(
        layouts.write("K1", factors, {site: 1.5}) | {f"{start}dora_scale": m}, tmp_path / "x.safetensors"
    )
    resolved = resolve(load_lora(tmp_path / "x.safetensors"), {site: W}).factors[site]
    moved = W + factors[site].delta().reshape(W.shape)
    expected = np.empty_like(moved)
    for channel in range(W.shape[axis]):
        at = (slice(None),) * axis + (channel,)
        expected[at] = m.ravel()[channel] * moved[at] / np.linalg.norm(moved[at]) - W[at]
    np.testing.assert_allclose(resolved.delta(), expected.reshape(len(W), -1), rtol=1e-4, atol=1e-5)
    assert resolved.rank == min(len(W), W[0].size)


def test_a_list_of_norms_is_of_the_outputs(one, tmp_path: Path) -> None:
    W, m = weights(unet())[CONVOLUTION], np.linspace(0.5, 2, 128, dtype=np.float32)
    updates = []
    for shape in ((128,), (128, 1, 1, 1), (1, 128, 1, 1)):
        lora = load(tmp_path, one | {f"{START}dora_scale": m.reshape(shape)})
        updates.append(resolve(lora, {CONVOLUTION: W}).factors[CONVOLUTION].delta())
    assert np.array_equal(updates[0], updates[1])
    assert not np.allclose(updates[0], updates[2], atol=1e-2)
    peft = load(tmp_path, one | {f"{START}lora_magnitude_vector": m.reshape(1, 128, 1, 1)})
    assert np.array_equal(updates[0], resolve(peft, {CONVOLUTION: W}).factors[CONVOLUTION].delta())


@pytest.fixture
def one(make_factors) -> dict[str, np.ndarray]:
    """A file of a plain module and one that a magnitude of 128 numbers makes DoRA."""
    return layouts.write("K1", make_factors("tiny", [LINEAR, CONVOLUTION]))


def load(folder: Path, tensors: Mapping[str, np.ndarray]) -> LoRA:
    save_file(dict(tensors), folder / "x.safetensors")
    return load_lora(folder / "x.safetensors")


START = layouts.k1(CONVOLUTION)[0]


@pytest.mark.parametrize(
    ("magnitude", "words"),
    [
        ({"dora_scale": np.ones((127, 1, 1, 1), "f4")}, "127 numbers for 128 channels"),
        ({"dora_scale": np.ones((1, 127), "f4")}, "127 numbers for 128 channels"),
        ({"dora_scale": np.ones((), "f4")}, "no magnitude of DoRA"),
        ({"dora_scale": np.ones((64, 2), "f4")}, "no magnitude of DoRA"),
        ({"dora_scale": np.ones((0, 1), "f4")}, "no magnitude of DoRA"),
        ({"dora_scale": np.ones((128, 1), "i4")}, "no magnitude of DoRA"),
        ({"dora_scale": np.ones(128, "f4"), "lora_magnitude_vector": np.ones(128, "f4")}, "given twice"),
        ({"magnitude": np.ones(128, "f4")}, "more than a plain LoRA pair"),
    ],
)
def test_an_odd_magnitude_makes_no_plain_lora(one, magnitude: dict, words: str, tmp_path: Path) -> None:
    lora = load(tmp_path, one | {START + name: value for name, value in magnitude.items()})
    assert (set(lora.factors), lora.dora) == ({LINEAR}, {})
    assert len(lora.unread) == 2 + len(magnitude)
    assert all(words in item.why for item in lora.unread)


def test_what_cannot_be_resolved_is_an_error(one, tmp_path: Path) -> None:
    lora = load(tmp_path, one | {f"{START}dora_scale": np.ones((128, 1, 1, 1), "f4")})
    assert (set(lora.factors), set(lora.dora)) == ({LINEAR}, {CONVOLUTION})
    assert [item.why for item in lora.unread] == [NEEDS_BASE] * 3
    W = weights(unet())[CONVOLUTION]
    for held in (
        {},
        {CONVOLUTION: W[1:]},
        {CONVOLUTION: W[:, 1:]},
        {CONVOLUTION: W.reshape(len(W), -1)[:, 1:]},
    ):
        with pytest.raises(NotScannable, match="does not fit this base"):
            resolve(lora, held)


def test_a_channel_without_weights_stays_empty(one, tmp_path: Path) -> None:
    tensors = one | {f"{START}lora_up.weight": np.zeros_like(one[f"{START}lora_up.weight"])}
    lora = load(tmp_path, tensors | {f"{START}dora_scale": np.ones((128, 1, 1, 1), "f4")})
    W = weights(unet())[CONVOLUTION].copy()
    W[5] = 0
    update = resolve(lora, {CONVOLUTION: W}).factors[CONVOLUTION].delta()
    assert not update[5].any()
    assert np.isfinite(update).all() and update[6].any()


def test_a_configuration_that_says_dora_is_believed(make_factors, tmp_path: Path) -> None:
    """peft would fill in the magnitude of a fresh adapter; nobody knows the trained one."""
    tensors = layouts.write("P1", make_factors("tiny", [LINEAR, CONVOLUTION]))
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(layouts.peft_config(use_dora=True))
    with pytest.raises(NotScannable, match="it is DoRA without its magnitude"):
        load_lora(tmp_path)
    (tmp_path / "adapter_config.json").write_text(layouts.peft_config())
    assert len(load_lora(tmp_path).factors) == 2


def test_nothing_is_exported_of_a_file_that_is_all_dora(tmp_path: Path) -> None:
    peft_dora().save_pretrained(str(tmp_path / "x"))
    with pytest.raises(NotScannable, match=NEEDS_BASE):
        export_lora(load_lora(tmp_path / "x"), "kohya", tmp_path / "y.safetensors")
    assert not (tmp_path / "y.safetensors").exists()

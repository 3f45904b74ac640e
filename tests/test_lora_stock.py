"""Files that diffusers and peft write are read right, and what loraudit writes has the same effect there.

The networks are the tiny base's own, with random weights.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, inject_adapter_in_model
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from loraudit.cards import models_dir
from loraudit.lora import LoRA, load_lora, write_diffusers, write_kohya, write_peft
from loraudit.lora.layouts.dialects import ASIDE, SAVED

ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
TEXT = ["q_proj", "v_proj"]


def unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    config = json.loads((models_dir() / "tiny-sd" / "unet" / "config.json").read_text())
    return UNet2DConditionModel.from_config(config).eval().requires_grad_(False)


def text_encoder() -> CLIPTextModel:
    torch.manual_seed(1)
    config = CLIPTextConfig.from_pretrained(models_dir() / "tiny-sd" / "text_encoder")
    return CLIPTextModel(config).eval().requires_grad_(False)


def randomise(network: torch.nn.Module) -> None:
    """peft starts with B = 0, which any reading would get right."""
    torch.manual_seed(2)
    for name, parameter in network.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(std=0.1)


def updates(network: torch.nn.Module, prefix: str) -> dict[str, np.ndarray]:
    """What peft itself adds to each weight, by our site name, `[out, in]` with kernels flattened."""
    found = {}
    for name, layer in network.named_modules():
        if hasattr(layer, "get_delta_weight"):
            (adapter,) = layer.active_adapters
            path = name.removeprefix("base_model.model.").removeprefix("text_model.")
            found[f"{prefix}.{path}"] = layer.get_delta_weight(adapter).detach().flatten(1).numpy()
    return found


def assert_reads(lora: LoRA, expected: dict[str, np.ndarray]) -> None:
    assert lora.base == "tiny"
    assert lora.unread == ()
    assert set(lora.factors) == set(expected)
    for site, delta in expected.items():
        np.testing.assert_allclose(lora.factors[site].delta(), delta, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("stabilised", [False, True])
def test_a_folder_that_peft_wrote(stabilised: bool, tmp_path: Path) -> None:
    config = LoraConfig(
        r=3,
        lora_alpha=27,
        use_rslora=stabilised,
        rank_pattern={"mid_block.attentions.0.transformer_blocks.0.attn1.to_q": 5},
        alpha_pattern={"mid_block.attentions.0.transformer_blocks.0.attn1.to_q": 2, "proj_in": 7},
        target_modules=[*ATTENTION, "proj_in", "conv1", "ff.net.2"],
    )
    network = get_peft_model(unet(), config)
    randomise(network)
    network.save_pretrained(str(tmp_path))
    assert_reads(load_lora(tmp_path), updates(network, "unet"))


@pytest.mark.filterwarnings("ignore:`lora_bias=True` was passed")
@pytest.mark.parametrize("wrapped", [True, False])
def test_a_raw_state_dict_with_the_base_in_it(wrapped: bool, tmp_path: Path) -> None:
    config = LoraConfig(r=3, lora_alpha=3, lora_bias=True, target_modules=[*ATTENTION, "proj_in", "conv1"])
    network = get_peft_model(unet(), config)
    randomise(network)
    saved = network if wrapped else network.base_model.model
    save_file(saved.state_dict(), tmp_path / "x.safetensors")
    lora = load_lora(tmp_path / "x.safetensors")
    expected = updates(network, "unet")
    assert lora.dialect == "peft"
    assert set(lora.factors) == set(expected)
    for site, delta in expected.items():
        np.testing.assert_allclose(lora.factors[site].delta(), delta, rtol=1e-4, atol=1e-6)
    assert {item.why for item in lora.unread if "norm" not in item.key} == {
        "missing, so the scale of every module is unknown and taken as 1",
        *(set(ASIDE.values()) - {SAVED}),
    }


def test_a_file_that_diffusers_saved(tmp_path: Path) -> None:
    network, text = unet(), text_encoder()
    inject_adapter_in_model(LoraConfig(r=4, lora_alpha=4, target_modules=ATTENTION), network)
    inject_adapter_in_model(LoraConfig(r=4, lora_alpha=4, target_modules=TEXT), text)
    randomise(network)
    randomise(text)
    StableDiffusionPipeline.save_lora_weights(
        tmp_path,
        convert_state_dict_to_diffusers(get_peft_model_state_dict(network)),
        convert_state_dict_to_diffusers(get_peft_model_state_dict(text)),
    )
    lora = load_lora(tmp_path / "pytorch_lora_weights.safetensors")
    assert lora.dialect == "diffusers"
    assert_reads(lora, updates(network, "unet") | updates(text, "text_encoder"))


def test_a_file_that_diffusers_saved_with_its_configuration(tmp_path: Path) -> None:
    network = unet()
    network.add_adapter(LoraConfig(r=4, lora_alpha=10, target_modules=ATTENTION))
    randomise(network)
    StableDiffusionPipeline.save_lora_weights(
        tmp_path,
        get_peft_model_state_dict(network),
        unet_lora_adapter_metadata=network.peft_config["default"].to_dict(),
    )
    lora = load_lora(tmp_path)
    assert {factors.scale for factors in lora.factors.values()} == {2.5}
    assert_reads(lora, updates(network, "unet"))


# diffusers 0.42 misreads alpha in a kohya file of mixed ranks.
@pytest.mark.parametrize(("write", "ranks"), [(write_diffusers, (2, 3)), (write_kohya, (3,))])
def test_stock_diffusers_gives_a_written_file_the_same_effect(
    write, ranks, tmp_path: Path, make_factors
) -> None:
    network, text = unet(), text_encoder()
    sites = [f"unet.{name}" for name, _ in network.named_modules() if name.endswith(tuple(ATTENTION))]
    leaves = ("q_proj", "k_proj", "v_proj", "out_proj")
    sites += [f"text_encoder.{name}" for name, _ in text.named_modules() if name.endswith(leaves)]
    factors = make_factors("tiny", sites, ranks)
    write(factors, tmp_path / "x.safetensors")
    pipeline = StableDiffusionPipeline(
        None, text, None, network, None, None, None, requires_safety_checker=False
    )
    pipeline.load_lora_weights(tmp_path, weight_name="x.safetensors")
    expected = updates(network, "unet") | updates(text, "text_encoder")
    assert set(expected) == set(sites)
    for site, delta in expected.items():
        np.testing.assert_allclose(factors[site].delta(), delta, rtol=1e-4, atol=1e-5)


def test_stock_peft_gives_a_written_folder_the_same_effect(tmp_path: Path, make_factors) -> None:
    leaves = (*ATTENTION, "proj_in", "conv1")
    sites = [f"unet.{name}" for name, _ in unet().named_modules() if name.endswith(leaves)]
    factors = make_factors("tiny", sites)
    write_peft(factors, tmp_path / "x")
    expected = updates(PeftModel.from_pretrained(unet(), tmp_path / "x"), "unet")
    assert set(expected) == set(sites)
    for site, delta in expected.items():
        np.testing.assert_allclose(factors[site].delta(), delta, rtol=1e-4, atol=1e-5)

"""The enumeration agrees with the networks of diffusers and transformers, module by module."""

import json

import pytest

from loraudit.cards import models_dir
from loraudit.lora.layouts.topology import TextShape, UNetShape, topologies

# The default arguments of UNet2DConditionModel are SD 1.x but for the width of the text.
SD1 = {"cross_attention_dim": 768}
SMALL = {
    "block_out_channels": (32, 64, 64),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 48,
    "attention_head_dim": 4,
}
CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
SMALL_CLIP = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}


def adaptable(network) -> dict[str, tuple[int, ...]]:
    """Every Linear and convolution that a LoRA can adapt."""
    import torch

    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    found = {name: module for name, module in network.named_modules() if isinstance(module, kinds)}
    return {name.removeprefix("text_model."): tuple(module.weight.shape) for name, module in found.items()}


@pytest.mark.parametrize("config", [SD1, SMALL], ids=["sd1", "small"])
def test_unet_modules(config: dict) -> None:
    import torch
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(**config)
    assert dict(UNetShape.from_config(unet.config).modules()) == adaptable(unet)


@pytest.mark.parametrize("config", [CLIP_L, SMALL_CLIP], ids=["clip-l", "small"])
def test_text_modules(config: dict) -> None:
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        text = CLIPTextModel(CLIPTextConfig(**config))
    assert dict(TextShape.from_config(config).modules()) == adaptable(text)


def test_the_defaults_are_sd1() -> None:
    sd1 = topologies()[0]
    unet = [shape for site, shape in sd1.shapes.items() if site.startswith("unet.")]
    assert sd1.base == "sd15"
    assert (len(unet), len(sd1.shapes) - len(unet)) == (282, 72)
    assert [sum(shape[2:] == kernel for shape in unet) for kernel in ((), (1, 1), (3, 3))] == [184, 46, 52]
    assert not sd1.fits("unet.nowhere", 1, 1)


def test_no_two_modules_share_an_underscored_name() -> None:
    sites = {site for topology in topologies() for site in topology.shapes}
    assert len({site.replace(".", "_") for site in sites}) == len(sites)


def test_the_tiny_base_is_enumerated_from_its_own_config() -> None:
    import torch
    from diffusers import UNet2DConditionModel

    config = json.loads((models_dir() / "tiny-sd" / "unet" / "config.json").read_text())
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(config)
    tiny = next(topology for topology in topologies() if topology.base == "tiny")
    assert {f"unet.{path}": shape for path, shape in adaptable(unet).items()}.items() <= tiny.shapes.items()

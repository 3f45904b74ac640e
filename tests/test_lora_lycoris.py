"""Files that LyCORIS and peft write with LoCon, LoHa and LoKr have the same effect in loraudit's reading."""

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from lycoris import LycorisNetwork
from peft import LoHaConfig, LoKrConfig, get_peft_model

from loraudit.errors import NotScannable
from loraudit.lora import LoRA, load_lora
from loraudit.lora.layouts.dialects import ASIDE
from tests.test_lora_stock import assert_reads, unet, updates

BLOCKS = ["Transformer2DModel", "ResnetBlock2D", "Upsample2D", "Downsample2D"]


def drawn(network: UNet2DConditionModel) -> torch.Tensor:
    torch.manual_seed(3)
    latents, text = torch.randn(1, 8, 8, 8), torch.randn(1, 5, 128)
    with torch.no_grad():
        return network(latents, torch.tensor([500]), text).sample


def merge(network: UNet2DConditionModel, lora: LoRA) -> UNet2DConditionModel:
    for site, factors in lora.factors.items():
        if site.startswith("text_encoder."):
            continue
        weight = network.get_submodule(site.removeprefix("unet.")).weight
        weight.data += torch.from_numpy(factors.delta()).reshape(weight.shape)
    return network


def lycoris(network: UNet2DConditionModel, monkeypatch, prefix: str, **settings: object) -> LycorisNetwork:
    monkeypatch.setattr(LycorisNetwork, "LORA_PREFIX", prefix)
    monkeypatch.setattr(LycorisNetwork, "TARGET_REPLACE_MODULE", BLOCKS)
    sizes = {"lora_dim": 4, "alpha": 2, "conv_lora_dim": 5, "conv_alpha": 1}
    adapter = LycorisNetwork(network, **sizes | settings)
    torch.manual_seed(2)
    for layer in adapter.loras:
        for name, parameter in layer.named_parameters():
            if name != "bias":
                parameter.data.normal_(std=0.2)
    return adapter


@pytest.mark.parametrize(
    "settings",
    [
        {"network_module": "locon"},
        {"network_module": "locon", "rs_lora": True},
        {"network_module": "locon", "use_tucker": True},
        {"network_module": "locon", "use_scalar": True},
        {"network_module": "loha"},
        {"network_module": "loha", "lora_dim": 16, "conv_lora_dim": 20},
        {"network_module": "loha", "use_tucker": True, "rs_lora": True},
        {"network_module": "lokr"},
        {"network_module": "lokr", "lora_dim": 2, "conv_lora_dim": 2, "decompose_both": True, "factor": 8},
        {"network_module": "lokr", "lora_dim": 2, "conv_lora_dim": 2, "use_tucker": True, "rs_lora": True},
        {"network_module": "lokr", "full_matrix": True},
        {"network_module": "full"},
    ],
    ids=lambda settings: " ".join(map(str, settings.values())),
)
def test_lycoris(settings: dict, tmp_path: Path, monkeypatch) -> None:
    network = unet()
    prefix = "lora_unet" if "rs_lora" in settings else "lycoris"
    adapter = lycoris(network, monkeypatch, prefix, **settings)
    before = drawn(network)
    adapter.apply_to()
    adapter.eval()
    theirs = drawn(network)
    adapter.save_weights(str(tmp_path / "x.safetensors"), None, {})
    adapter.restore()
    lora = load_lora(tmp_path / "x.safetensors")
    assert (lora.dialect, lora.base) == ("lycoris" if prefix == "lycoris" else "kohya", "tiny")
    assert {item.why for item in lora.unread} <= {ASIDE["bias"]}
    assert len(lora.factors) == len(adapter.loras)
    ours = drawn(merge(network, lora))
    change = (theirs - before).abs().max()
    assert change > 0.01
    assert (ours - theirs).abs().max() < 1e-4 * change


@pytest.mark.parametrize(("algo", "name"), [("diag-oft", "an OFT"), ("glora", "a GLoRA"), ("ia3", "an IA3")])
def test_kinds_that_multiply_the_weights(algo: str, name: str, tmp_path: Path, monkeypatch) -> None:
    adapter = lycoris(unet(), monkeypatch, "lora_unet", network_module=algo)
    adapter.apply_to()
    adapter.save_weights(str(tmp_path / "x.safetensors"), None, {})
    with pytest.raises(NotScannable, match=f"{name} adapter, which multiplies the base's weights"):
        load_lora(tmp_path / "x.safetensors")


TARGETS = ["to_q", "to_v", "proj_in", "conv1", "ff.net.2"]


@pytest.mark.parametrize(
    "config",
    [
        LoHaConfig(r=3, alpha=7, target_modules=TARGETS, alpha_pattern={"proj_in": 2}),
        LoHaConfig(r=3, alpha=7, target_modules=TARGETS, use_effective_conv2d=True),
        LoKrConfig(r=2, alpha=5, target_modules=TARGETS, rank_pattern={"to_q": 1}),
        LoKrConfig(r=2, alpha=5, target_modules=TARGETS, decompose_both=True, decompose_factor=8),
        LoKrConfig(r=2, alpha=5, target_modules=TARGETS, use_effective_conv2d=True),
        # Both matrices whole: only the configuration knows the rank that alpha is divided by.
        LoKrConfig(r=200, alpha=50, target_modules=TARGETS, rank_pattern={"proj_in": 300}),
    ],
    ids=lambda config: config.peft_type.value,
)
def test_peft(config: LoHaConfig | LoKrConfig, tmp_path: Path) -> None:
    network = get_peft_model(unet(), config)
    torch.manual_seed(2)
    for name, parameter in network.named_parameters():
        if "hada_" in name or "lokr_" in name:
            parameter.data.normal_(std=0.1)
    network.save_pretrained(str(tmp_path))
    assert_reads(load_lora(tmp_path), updates(network, "unet"))

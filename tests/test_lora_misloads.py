"""Files that stock diffusers 0.42 reads wrongly or not at all are read rightly here.

Each test first shows what diffusers makes of the file, so that it speaks up once that changes.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.numpy import save_file

from benchmarks.tables import layouts
from loraudit.lora import Factors, Site, load_lora
from tests.test_lora_lycoris import drawn, merge
from tests.test_lora_stock import ATTENTION, text_encoder, unet, updates

LEAVES = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


@pytest.fixture
def factors(make_factors) -> dict[Site, Factors]:
    sites = [f"unet.{name}" for name, _ in unet().named_modules() if name.endswith((*ATTENTION, "ff.net.2"))]
    sites += [f"text_encoder.{name}" for name, _ in text_encoder().named_modules() if name.endswith(LEAVES)]
    return make_factors("tiny", sites, (2, 3))


def loaded(folder: Path) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The UNet and the text tower once diffusers has loaded `x.safetensors` into them."""
    network, text = unet(), text_encoder()
    parts = (None, text, None, network, None, None, None)
    pipeline = StableDiffusionPipeline(*parts, requires_safety_checker=False)
    pipeline.load_lora_weights(folder, weight_name="x.safetensors")
    return network, text


def in_diffusers(folder: Path) -> dict[str, np.ndarray]:
    """What diffusers adds to each weight once it has loaded the file."""
    network, text = loaded(folder)
    return updates(network, "unet") | updates(text, "text_encoder")


def wrong(theirs: Mapping[str, np.ndarray], factors: Mapping[Site, Factors]) -> set[Site]:
    """The modules whose update diffusers misses or gets wrong."""
    return {
        site
        for site, own in factors.items()
        if site not in theirs or not np.allclose(theirs[site], own.delta(), rtol=1e-4, atol=1e-4)
    }


def assert_ours_is_right(path: Path, factors: Mapping[Site, Factors]) -> None:
    lora = load_lora(path)
    assert {item.key for item in lora.unread} <= {"adapter_config.json", "bundle_emb.ada.clip_l"}
    assert set(lora.factors) == set(factors)
    for site, own in factors.items():
        np.testing.assert_allclose(lora.factors[site].delta(), own.delta(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", ["D1", "D2", "D4", "K1", "K2"])
def test_a_layout_that_both_read(layout: str, factors, tmp_path: Path) -> None:
    """The control: the comparison finds nothing wrong where nothing is, and the UNet draws the same."""
    sites = layouts.LAYOUTS[layout][2]
    small = {
        site: Factors(own.up * np.float32(0.1), own.down, 1.0)
        for site, own in factors.items()
        if layouts.holds(sites, site)
    }
    save_file(layouts.write(layout, small), tmp_path / "x.safetensors")
    network, text = loaded(tmp_path)
    assert wrong(updates(network, "unet") | updates(text, "text_encoder"), small) == set()
    assert_ours_is_right(tmp_path / "x.safetensors", small)
    ours, before = merge(unet(), load_lora(tmp_path / "x.safetensors")), drawn(unet())
    change = (drawn(network) - before).abs().max()
    assert change > 0.01
    assert (drawn(ours) - drawn(network)).abs().max() < 1e-5 * max(1.0, float(change))


@pytest.mark.filterwarnings("ignore:The following alpha_pattern keys")
def test_attention_whose_alpha_is_not_the_most_common_one(factors, tmp_path: Path) -> None:
    unet_only = {site: own for site, own in factors.items() if site.startswith("unet.")}
    alphas = {site: 8.0 if site.endswith("attn1.to_q") else 1.0 for site in unet_only}
    save_file(layouts.write("K1", unet_only, alphas), tmp_path / "x.safetensors")
    missed = wrong(in_diffusers(tmp_path), unet_only)
    assert {site for site, alpha in alphas.items() if alpha == 8.0} <= missed
    assert_ours_is_right(tmp_path / "x.safetensors", unet_only)


@pytest.mark.parametrize("layout", ["D3", "P1", "S1"])
def test_layouts_of_which_no_module_is_loaded(layout: str, factors, tmp_path: Path) -> None:
    own = {
        site: one
        for site, one in factors.items()
        if site.startswith("unet.") and layouts.holds(layouts.LAYOUTS[layout][2], site)
    }
    save_file(layouts.write(layout, own), tmp_path / "x.safetensors")
    assert in_diffusers(tmp_path) == {}
    assert_ours_is_right(tmp_path / "x.safetensors", own)


def test_a_raw_state_dict_whose_up_matrices_are_lost(factors, tmp_path: Path) -> None:
    own = {site: one for site, one in factors.items() if site.startswith("unet.")}
    save_file(layouts.write("P2 unet", own), tmp_path / "x.safetensors")
    network, _ = loaded(tmp_path)
    ups = [value for name, value in network.named_parameters() if "lora_B" in name]
    assert len(ups) == len(own)
    # Injected, but never given a value.
    assert all(up.is_meta or not up.any() for up in ups)
    assert_ours_is_right(tmp_path / "x.safetensors", own)


def test_a_text_tower_of_queries_and_values(factors, tmp_path: Path) -> None:
    own = {site: one for site, one in factors.items() if site.endswith(("q_proj", "v_proj"))}
    save_file(layouts.write("K1", own), tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="infer state dict type"):
        in_diffusers(tmp_path)
    assert_ours_is_right(tmp_path / "x.safetensors", own)
    more = own | {site: one for site, one in factors.items() if site.endswith(("fc1", "fc2"))}
    save_file(layouts.write("K1", more), tmp_path / "x.safetensors")
    assert set(own) <= wrong(in_diffusers(tmp_path), more)
    assert_ours_is_right(tmp_path / "x.safetensors", more)


def test_a_bundled_embedding(factors, tmp_path: Path) -> None:
    extra = {"bundle_emb.ada.clip_l": np.ones((1, 128), np.float32)}
    save_file(layouts.write("K1", factors) | extra, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="Invalid LoRA checkpoint"):
        in_diffusers(tmp_path)
    assert_ours_is_right(tmp_path / "x.safetensors", factors)


@pytest.mark.parametrize(
    "shapes",
    [
        {"lora_down.weight": (2, 64, 1, 1), "lora_mid.weight": (2, 2, 3, 3), "lora_up.weight": (64, 2, 1, 1)},
        {"hada_w1_a": (64, 2), "hada_w1_b": (2, 576), "hada_w2_a": (64, 2), "hada_w2_b": (2, 576)},
        {"lokr_w1": (8, 8), "lokr_w2_a": (8, 2), "lokr_w2_b": (2, 72)},
    ],
    ids=["tucker", "loha", "lokr"],
)
def test_matrices_that_diffusers_cannot_read(shapes: dict, tmp_path: Path) -> None:
    name = "lora_unet_down_blocks_0_resnets_0_conv1"
    tensors = {f"{name}.{key}": np.ones(shape, np.float32) for key, shape in shapes.items()}
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"not been correctly renamed|Invalid LoRA checkpoint"):
        in_diffusers(tmp_path)
    assert load_lora(tmp_path / "x.safetensors").unread == ()

"""Every layout of an SD 1.x LoRA gives the same canonical factors, and every tensor is accounted for."""

import json
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from safetensors.numpy import save_file

from benchmarks.tables import layouts
from benchmarks.tables.layout_cases import cloneofsimo, walk
from benchmarks.tables.layouts import LAYOUTS, WITH_ALPHA, holds
from loraudit.errors import NotScannable
from loraudit.lora import Factors, LoRA, Site, load_lora
from loraudit.lora.layouts.compvis import compvis_paths
from loraudit.lora.layouts.dialects import DIALECTS
from loraudit.lora.layouts.topology import UNetShape, topologies
from tests.conftest import SD1_SITES

ATTENTION_SITES = (
    "text_encoder.encoder.layers.7.self_attn.out_proj",
    "unet.up_blocks.2.upsamplers.0.conv",
    "unet.up_blocks.0.upsamplers.0.conv",
    "unet.conv_in",
    "unet.down_blocks.2.downsamplers.0.conv",
)


@pytest.fixture
def factors(make_factors) -> dict[Site, Factors]:
    return make_factors("sd15", (*SD1_SITES, *ATTENTION_SITES))


def load(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> LoRA:
    save_file(dict(tensors), path, dict(metadata or {}))
    return load_lora(path)


def assert_equal(lora: LoRA, expected: Mapping[Site, Factors]) -> None:
    assert set(lora.factors) == set(expected)
    for site, own in expected.items():
        np.testing.assert_allclose(lora.factors[site].up, own.up, rtol=1e-5)
        np.testing.assert_array_equal(lora.factors[site].down, own.down)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_without_alpha(layout: str, factors, tmp_path: Path) -> None:
    _, dialect, sites = LAYOUTS[layout]
    expected = {site: own for site, own in factors.items() if holds(sites, site)}
    lora = load(tmp_path / "x.safetensors", layouts.write(layout, expected))
    assert (lora.dialect, lora.family, lora.base) == (dialect, "SD 1.x", "sd15")
    assert [item.key for item in lora.unread] == (["adapter_config.json"] if dialect == "peft" else [])
    assert_equal(lora, expected)


@pytest.mark.parametrize("layout", sorted(WITH_ALPHA))
def test_mixed_ranks_and_alphas(layout: str, factors, tmp_path: Path) -> None:
    expected = {site: own for site, own in factors.items() if holds(LAYOUTS[layout][2], site)}
    alphas = {site: float(1 + 3 * at) for at, site in enumerate(expected)}
    lora = load(tmp_path / "x.safetensors", layouts.write(layout, expected, alphas))
    assert lora.unread == ()
    assert len({own.scale for own in lora.factors.values()}) > len(expected) // 2
    assert_equal(lora, expected)


def test_alpha_of_zero_or_none_is_the_rank_and_any_dtype_will_do(factors, tmp_path: Path) -> None:
    tensors = layouts.write("K1", factors)
    starts = [key.removesuffix("lora_up.weight") for key in tensors if key.endswith("lora_up.weight")]
    given = [np.zeros((), np.float32), np.array([0], np.int64), np.array([[0.0]], np.float16)]
    tensors |= {f"{start}alpha": alpha for start, alpha in zip(starts, given, strict=False)}
    assert_equal(load(tmp_path / "x.safetensors", tensors), factors)
    tensors |= {f"{start}alpha": np.ones(2, np.float32) for start in starts[:1]}
    lora = load(tmp_path / "x.safetensors", tensors)
    assert len(lora.factors) == len(factors) - 1
    assert {item.why for item in lora.unread} == {"its alpha holds 2 numbers, not one"}


@pytest.mark.parametrize(
    ("dtype", "rtol"),
    [
        (np.float64, 1e-6),
        (np.float16, 0),
        (ml_dtypes.bfloat16, 0),
        (ml_dtypes.float8_e4m3fn, 0),
        (ml_dtypes.float8_e5m2, 0),
    ],
)
def test_dtypes(dtype, rtol: float, factors, tmp_path: Path) -> None:
    rounded = {
        site: Factors(own.up.astype(dtype).astype("f4"), own.down.astype(dtype).astype("f4"), 1.0)
        for site, own in factors.items()
    }
    tensors = {key: torch.from_numpy(value) for key, value in layouts.write("K1", rounded).items()}
    names = {"bfloat16": torch.bfloat16, "float8_e4m3fn": torch.float8_e4m3fn}
    names |= {"float8_e5m2": torch.float8_e5m2, "float16": torch.float16, "float64": torch.float64}
    from safetensors.torch import save_file as save_torch

    save_torch(
        {key: value.to(names[np.dtype(dtype).name]) for key, value in tensors.items()},
        tmp_path / "x.safetensors",
    )
    lora = load_lora(tmp_path / "x.safetensors")
    for site, own in rounded.items():
        np.testing.assert_allclose(lora.factors[site].up, own.up, rtol=rtol)
        np.testing.assert_allclose(lora.factors[site].down, own.down, rtol=rtol)


def test_linear_and_pointwise_matrices_come_in_two_and_four_dimensions(factors, tmp_path: Path) -> None:
    tensors = layouts.write("K1", factors)
    for key, value in tensors.items():
        if value.ndim == 2:
            tensors[key] = value[:, :, None, None]
        elif value.shape[2:] == (1, 1):
            tensors[key] = value[:, :, 0, 0]
    lora = load(tmp_path / "x.safetensors", tensors)
    assert lora.unread == ()
    assert_equal(lora, factors)


def test_a_kernel_of_the_wrong_shape_is_no_match_though_its_size_is(factors, tmp_path: Path) -> None:
    site = "unet.down_blocks.0.resnets.0.conv1"
    tensors = layouts.write("K1", factors)
    (key,) = [key for key in tensors if "resnets_0_conv1.lora_down" in key]
    tensors[key] = np.ascontiguousarray(tensors[key].transpose(0, 2, 3, 1))
    lora = load(tmp_path / "x.safetensors", tensors)
    assert site not in lora.factors
    assert {item.why for item in lora.unread} == {
        "its size [320, 3, 3, 320] is not the module's [320, 320, 3, 3]"
    }


def test_bundled_embeddings_ride_along(factors, tmp_path: Path) -> None:
    extra = {"bundle_emb.ada.string_to_param.*": np.ones((2, 768), np.float32)}
    lora = load(tmp_path / "x.safetensors", layouts.write("K1", factors) | extra)
    assert_equal(lora, factors)
    assert [(item.key, "textual inversion" in item.why) for item in lora.unread] == [(*extra, True)]


def test_a_peft_folder_with_patterns_and_rslora(factors, tmp_path: Path) -> None:
    expected = {site: own for site, own in factors.items() if site.startswith("unet.")}
    tensors = layouts.write("P1", expected)
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    config = layouts.peft_config(use_rslora=True, lora_alpha=5, alpha_pattern={"proj_in": 7, "attn1.to_q": 2})
    (tmp_path / "adapter_config.json").write_text(config)
    lora = load_lora(tmp_path)
    assert lora.unread == ()
    for site, own in expected.items():
        alpha = 7 if site.endswith("proj_in") else 2 if site.endswith("attn1.to_q") else 5
        assert lora.factors[site].scale == pytest.approx(alpha / own.rank**0.5)


@pytest.mark.parametrize("name", ["jane_doe", "default_0", "weights"])
def test_a_raw_peft_dump_under_another_adapter_name(name: str, factors, tmp_path: Path) -> None:
    tensors = {
        f"{site.partition('.')[2]}.lora_{letter}.{name}.weight": array
        for site, own in factors.items()
        if site.startswith("unet.") and "attn" in site
        for letter, array in (("A", own.down), ("B", own.up))
    }
    lora = load(tmp_path / "x.safetensors", tensors)
    expected = {site: own for site, own in factors.items() if site.startswith("unet.") and "attn" in site}
    assert lora.dialect == "peft"
    assert [item.key for item in lora.unread] == ["adapter_config.json"]
    assert_equal(lora, expected)


def test_several_adapters_in_one_dump_are_named_unread(factors, tmp_path: Path) -> None:
    site = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    own = factors[site]
    tensors = {
        f"{site.partition('.')[2]}.lora_{letter}.{name}.weight": array.copy()
        for name in ("default", "other")
        for letter, array in (("A", own.down), ("B", own.up))
    }
    with pytest.raises(NotScannable, match="several adapters"):
        load(tmp_path / "x.safetensors", tensors)


def test_a_raw_peft_dump_holds_the_base_too(factors, tmp_path: Path) -> None:
    site = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0"
    tensors = layouts.write("P2", {site: factors[site]})
    name = f"base_model.model.{site.removeprefix('unet.')}.base_layer.weight"
    lora = load(tmp_path / "x.safetensors", tensors | {name: np.ones((1280, 1280), np.float32)})
    assert_equal(lora, {site: factors[site]})
    assert {item.key: item.why for item in lora.unread}[name] == "the base's own weight, not part of the LoRA"


def test_a_file_of_processors_with_the_text_tower_of_its_time(factors, tmp_path: Path) -> None:
    """diffusers 0.22 to 0.24 wrote both."""
    attention = {site: own for site, own in factors.items() if holds("attention", site)}
    unet = {site: own for site, own in attention.items() if site.startswith("unet.")}
    text = {site: own for site, own in factors.items() if site.startswith("text_encoder.")}
    lora = load(tmp_path / "x.safetensors", layouts.write("D4", unet) | layouts.write("D1", text))
    assert (lora.dialect, lora.unread) == ("diffusers-old", ())
    assert_equal(lora, unet | text)


def test_the_compvis_names_are_those_that_diffusers_converts() -> None:
    """Its own converter of whole checkpoints, which knows the names of weights, agrees on all 282."""
    paths = compvis_paths(UNetShape())
    assert len(set(paths.values())) == 282
    # Both spellings of the one upsampler without attention beside it.
    assert len(paths) == 283
    assert paths["output_blocks.2.1.conv"] == paths["output_blocks.2.2.conv"]
    names = [name for name in paths if name != "output_blocks.2.2.conv"]
    weights = {f"model.diffusion_model.{name}.weight": torch.full((1,), at) for at, name in enumerate(names)}
    zero = torch.zeros(1)
    for block in ("time_embed.0", "time_embed.2", "input_blocks.0.0", "out.0", "out.2"):
        weights.setdefault(f"model.diffusion_model.{block}.weight", zero)
        weights[f"model.diffusion_model.{block}.bias"] = zero
    for name in names:
        if ".0.in_layers.2" in name or "middle_block" in name or name.endswith((".op", ".conv")):
            weights[f"model.diffusion_model.{name}.bias"] = zero
    converted = convert_ldm_unet_checkpoint(
        weights, {"layers_per_block": 2, "class_embed_type": None, "addition_embed_type": None}
    )
    theirs = {key: int(value) for key, value in converted.items() if value is not zero}
    assert {f"{path}.weight": names.index(name) for name, path in paths.items() if name in names} == theirs


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("old", [False, True])
def test_cloneofsimo(extended: bool, old: bool, make_factors, tmp_path: Path) -> None:
    kinds = ("Attention", "GEGLU", *(("ResnetBlock2D",) if extended else ()))
    order = walk(kinds)
    assert len(order) == (224 if extended else 144)
    if old:
        # diffusers of that time registered attn1, ff, attn2.
        for at, site in enumerate(order):
            if site.endswith("ff.net.0.proj"):
                order[at - 4 : at + 1] = [site, *order[at - 4 : at]]
    text = [
        f"text_encoder.encoder.layers.{layer}.self_attn.{leaf}"
        for layer in range(12)
        for leaf in ("k_proj", "v_proj", "q_proj", "out_proj")
    ]
    expected = make_factors("sd15", [*order, *text], (1,))
    tensors = cloneofsimo(expected, order, "unet") | cloneofsimo(expected, text, "text_encoder")
    metadata = {"unet": json.dumps(kinds), "unet:0:rank": "1", "<s1>": "<embed>"}
    lora = load(tmp_path / "x.safetensors", tensors | {"<s1>": np.ones((1, 768), np.float32)}, metadata)
    assert (lora.dialect, lora.base) == ("cloneofsimo", "sd15")
    assert [(item.key, "rides along" in item.why) for item in lora.unread] == [("<s1>", True)]
    assert_equal(lora, expected)


def test_cloneofsimo_in_no_known_order(make_factors, tmp_path: Path) -> None:
    order = walk(("Attention", "GEGLU"))
    factors = make_factors("sd15", order, (1,))
    for shuffled in (order[::-1], order[:-1]):
        with pytest.raises(NotScannable, match="order of the modules cannot be told"):
            load(tmp_path / "x.safetensors", cloneofsimo(factors, shuffled, "unet"))
    for hostile in ("[", "{}", "[[]]", '"x"', "[1]"):
        with pytest.raises(NotScannable):
            load(tmp_path / "x.safetensors", cloneofsimo(factors, order[::-1], "unet"), {"unet": hostile})


def test_a_number_of_cloneofsimo_has_one_spelling(make_factors, tmp_path: Path) -> None:
    order = walk(("Attention", "GEGLU"))
    factors = make_factors("sd15", order, (1,))
    tensors = cloneofsimo(factors, order, "unet")
    twins = {"unet:07:up": tensors["unet:7:up"] + 1, "unet:\u0667:up": tensors["unet:7:up"] + 2}
    lora = load(tmp_path / "x.safetensors", tensors | twins)
    assert_equal(lora, factors)
    assert {item.key for item in lora.unread} == set(twins)


def test_the_documentation_lists_every_layout() -> None:
    text = (Path(__file__).parent.parent / "docs" / "formats.md").read_text(encoding="utf-8")
    for dialect in DIALECTS:
        assert f"| `{dialect.name}` |" in text
    assert "| `cloneofsimo` |" in text


def test_every_underscored_name_is_free_of_collisions() -> None:
    sd1 = next(base for base in topologies() if base.base == "sd15")
    assert len({site.replace(".", "_") for site in sd1.shapes}) == len(sd1.shapes) == 282 + 72

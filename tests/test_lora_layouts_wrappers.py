"""What a model was wrapped in when it was saved changes no update; a trained replacement is called one."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from benchmarks.tables import layouts
from loraudit.errors import NotScannable
from loraudit.lora import Factors, LoRA, Site, load_lora, write_peft
from loraudit.lora.layouts.dialects import SAVED, SAVED_BIAS
from loraudit.lora.layouts.wrappers import unwrapped
from tests.conftest import SD1_SITES

UNET = tuple(site for site in SD1_SITES if site.startswith("unet."))
WRAPPERS: dict[str, tuple[str, Callable[[str], str]]] = {
    "DataParallel": ("D1", lambda key: f"module.{key}"),
    "compiled": ("D2", lambda key: f"_orig_mod.{key}"),
    "both": ("D2 bare", lambda key: f"module._orig_mod.module.{key}"),
    "a compiled part": ("D1", lambda key: key.replace("unet.", "unet._orig_mod.")),
    "compiled blocks": ("D1", lambda key: key.replace(".attentions.0.", ".attentions.0._orig_mod.")),
    "compiled kohya": ("K1", lambda key: key.replace("lora_unet_", "lora_unet__orig_mod_")),
    "diffusers 0.23": ("D3", lambda key: f"unet.unet.{key}"),
    "twice": ("D1", lambda key: f"{key.partition('.')[0]}.{key}"),
    "peft in a pipeline": (
        "P2",
        lambda key: f"unet.base_model.model.{key.removeprefix('base_model.model.')}",
    ),
    "a pipeline in peft": (
        "P2",
        lambda key: f"base_model.model.unet.{key.removeprefix('base_model.model.')}",
    ),
    "peft in peft": ("P1", lambda key: f"base_model.model.{key}"),
    "peft, compiled": (
        "P1",
        lambda key: f"base_model.model._orig_mod.{key.removeprefix('base_model.model.')}",
    ),
    "ComfyUI, compiled": ("C2", lambda key: key.replace("diffusion_model.", "diffusion_model._orig_mod.")),
}


def omi(site: Site) -> str:
    """OneTrainer's OMI layout: CompVis's names below `unet.`, transformers' below `clip_l.`."""
    _, path, is_unet = layouts.split(site)
    return f"unet.{layouts.compvis(path)}" if is_unet else f"clip_l.text_model.{path}"


def same(lora: LoRA, expected: dict[Site, Factors]) -> None:
    assert set(lora.factors) == set(expected)
    for site, own in expected.items():
        np.testing.assert_allclose(lora.factors[site].delta(), own.delta(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", WRAPPERS)
def test_a_wrapper_changes_no_update(kind: str, make_factors, tmp_path: Path) -> None:
    layout, wrap = WRAPPERS[kind]
    sites = layouts.LAYOUTS[layout][2]
    own = {site: one for site, one in make_factors("sd15", UNET).items() if layouts.holds(sites, site)}
    plain = layouts.write(layout, own)
    wrapped = {wrap(key): value for key, value in plain.items()}
    assert wrapped.keys() != plain.keys()
    save_file(wrapped, tmp_path / "x.safetensors")
    lora = load_lora(tmp_path / "x.safetensors")
    same(lora, own)
    assert lora.dialect == layouts.LAYOUTS[layout][1]
    assert {item.key for item in lora.unread} <= {"adapter_config.json"}


@pytest.mark.parametrize("alpha", [None, 1.0])
def test_onetrainers_omi_layout(alpha: float | None, sd1_factors, tmp_path: Path) -> None:
    own = {site: one for site, one in sd1_factors.items() if "down_blocks.1.attentions" not in site}
    own = {site: one for site, one in own.items() if "conv1" not in site}
    tensors = {}
    for site, one in own.items():
        tensors |= {f"{omi(site)}.lora_up.weight": one.up, f"{omi(site)}.lora_down.weight": one.down}
        if alpha is not None:
            tensors[f"{omi(site)}.alpha"] = np.array(alpha, np.float32)
    save_file(tensors, tmp_path / "x.safetensors")
    lora = load_lora(tmp_path / "x.safetensors")
    assert (lora.dialect, lora.unread) == ("compvis", ())
    scales = {site: 1.0 if alpha is None else alpha / one.rank for site, one in own.items()}
    same(lora, {site: Factors(one.up * np.float32(scales[site]), one.down, 1.0) for site, one in own.items()})


def test_another_word_is_no_wrapper(make_factors, tmp_path: Path) -> None:
    tensors = layouts.write("D1", make_factors("sd15", UNET))
    for word in ("modules.", "_orig_model.", "unet2.", "model.model."):
        save_file({f"{word}{key}": value for key, value in tensors.items()}, tmp_path / "x.safetensors")
        with pytest.raises(NotScannable):
            load_lora(tmp_path / "x.safetensors")
    for key in tensors:
        assert unwrapped(key) == key


def test_the_same_module_wrapped_and_bare_is_given_twice(make_factors, tmp_path: Path) -> None:
    tensors = layouts.write("D1", make_factors("sd15", UNET))
    twice = {f"module.{key}": value for key, value in tensors.items() if "attn1" in key}
    save_file(tensors | twice, tmp_path / "x.safetensors")
    lora = load_lora(tmp_path / "x.safetensors")
    assert {item.why for item in lora.unread} == {"this module is given twice"}
    assert len(lora.unread) == 2 * len(twice)


def test_a_name_of_wrappers_alone_costs_no_time() -> None:
    started = time.process_time()
    for long in (
        "module." * 1_000_000,
        "unet." * 1_000_000,
        "base_model.model." * 500_000,
        "_orig_mod" * 700_000,
    ):
        assert len(unwrapped(f"{long}x")) <= len(long) + 1
    assert time.process_time() - started < 4


def peft(folder: Path, factors: dict[Site, Factors], more: dict[str, np.ndarray], **config: object) -> LoRA:
    from safetensors.numpy import load_file

    write_peft(factors, folder)
    path = folder / "adapter_model.safetensors"
    save_file(load_file(path) | more, path)
    table = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(table | config))
    return load_lora(folder)


def test_trained_replacements_are_called_what_they_are(make_factors, tmp_path: Path) -> None:
    factors = make_factors("tiny", ["unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"])
    start = "base_model.model."
    more = {
        f"{start}conv_in.weight": np.ones((64, 8, 3, 3), np.float32),
        f"{start}conv_norm_out.weight": np.ones(64, np.float32),
        f"{start}time_embedding.linear_1.modules_to_save.default.weight": np.ones((256, 64), np.float32),
        f"{start}time_embedding.linear_1.original_module.weight": np.ones((256, 64), np.float32),
        f"{start}conv_out.bias": np.ones(8, np.float32),
    }
    saved = ["conv_in", "conv_norm_out"]
    told = peft(tmp_path / "a", factors, more, modules_to_save=saved, bias="all")
    why = {item.key.removeprefix(start): item.why for item in told.unread}
    assert why == {
        "conv_in.weight": SAVED,
        "conv_norm_out.weight": SAVED,
        "time_embedding.linear_1.modules_to_save.default.weight": SAVED,
        "time_embedding.linear_1.original_module.weight": "the base's own weight, not part of the LoRA",
        "conv_out.bias": SAVED_BIAS,
    }
    untold = peft(tmp_path / "b", factors, more)
    why = {item.key.removeprefix(start): item.why for item in untold.unread}
    assert "or one trained" in why["conv_in.weight"] and "or one trained" in why["conv_out.bias"]
    assert set(told.factors) == set(untold.factors) == set(factors)


def test_the_configuration_counts_without_pefts_prefix_too(make_factors, tmp_path: Path) -> None:
    site = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    own = make_factors("sd15", [site])
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 8}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    save_file(layouts.write("D2 bare", own), tmp_path / "adapter_model.safetensors")
    assert load_lora(tmp_path).factors[site].scale == 4.0
    # Of another name the file is none of peft's: the control.
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "lora.safetensors")
    assert load_lora(tmp_path / "lora.safetensors").factors[site].scale == 1.0
    (tmp_path / "lora.safetensors").rename(tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"init_lora_weights": "pissa"}))
    with pytest.raises(NotScannable, match="PiSSA"):
        load_lora(tmp_path)

"""The layouts of SD 1.x LoRA files that other programs write, spelled out apart from the readers."""

import json
from collections.abc import Callable, Mapping

import numpy as np

from loraudit.lora import Factors, Site

__all__ = ["LAYOUTS", "WITH_ALPHA", "Tensors", "compvis", "holds", "peft_config", "split", "write"]

Tensors = dict[str, np.ndarray]
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "q_proj", "k_proj", "v_proj", "out_proj")

# Parents of modules in CompVis's words, by LyCORIS `utils/__init__.py` and A1111 `networks.py`.
COMPVIS = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "down_blocks.0.resnets.0.conv1": "input_blocks.1.0.in_layers.2",
    "down_blocks.0.attentions.0": "input_blocks.1.1",
    "down_blocks.1.attentions.0": "input_blocks.4.1",
    "down_blocks.1.resnets.0.conv_shortcut": "input_blocks.4.0.skip_connection",
    "down_blocks.2.downsamplers.0.conv": "input_blocks.9.0.op",
    "down_blocks.3.resnets.1.time_emb_proj": "input_blocks.11.0.emb_layers.1",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1.conv2": "middle_block.2.out_layers.3",
    "up_blocks.0.upsamplers.0.conv": "output_blocks.2.1.conv",
    "up_blocks.2.upsamplers.0.conv": "output_blocks.8.2.conv",
    "up_blocks.3.attentions.2": "output_blocks.11.1",
}


def compvis(path: str) -> str:
    """Write a UNet module's path in CompVis's words."""
    owner = next(owner for owner in COMPVIS if f"{path}.".startswith(f"{owner}."))
    return COMPVIS[owner] + path.removeprefix(owner)


def split(site: Site) -> tuple[str, str, bool]:
    """Split a site into component, path, and whether the component is the UNet."""
    component, _, path = site.partition(".")
    return component, path, component == "unet"


def processor(path: str) -> str:
    """Write the path as attention processors spell it."""
    for leaf in ("to_q", "to_k", "to_v", "to_out.0"):
        if path.endswith(leaf):
            return path.removesuffix(leaf) + f"processor.{leaf.removesuffix('.0')}_lora"
    module, _, leaf = path.rpartition(".")
    return f"text_model.{module}.to_{leaf.removesuffix('_proj')}_lora"


def d1(site: Site) -> tuple[str, str, str]:
    """Spell a site in layout D1: start, down and up."""
    _, _, unet = split(site)
    middle = "lora" if unet else "lora_linear_layer"
    return f"{site}.", f"{middle}.down.weight", f"{middle}.up.weight"


def d2(site: Site) -> tuple[str, str, str]:
    """Spell a site in layout D2: start, down and up."""
    return f"{site}.", "lora_A.weight", "lora_B.weight"


def d2_bare(site: Site) -> tuple[str, str, str]:
    """Spell a site in layout D2 without `unet.`: start, down and up."""
    return f"{split(site)[1]}.", "lora_A.weight", "lora_B.weight"


def d3(site: Site) -> tuple[str, str, str]:
    """Spell a site in layout D3: start, down and up."""
    return f"{processor(split(site)[1])}.", "down.weight", "up.weight"


def d4(site: Site) -> tuple[str, str, str]:
    """Spell a site in layout D4: start, down and up."""
    component, path, _ = split(site)
    return f"{component}.{processor(path)}.", "down.weight", "up.weight"


def k1(site: Site, text: str = "lora_te_text_model_", unet: str = "lora_unet_") -> tuple[str, str, str]:
    """Spell a site in layout K1: start, down and up."""
    _, path, is_unet = split(site)
    return (unet if is_unet else text) + path.replace(".", "_") + ".", "lora_down.weight", "lora_up.weight"


def k2(site: Site) -> tuple[str, str, str]:
    """Spell a site in layout K2: start, down and up."""
    return k1(site, "lora_te1_text_model_")


def k_new(site: Site) -> tuple[str, str, str]:
    """Spell a site in layout K1 without `text_model.`: start, down and up."""
    return k1(site, "lora_te_")


def s1(site: Site) -> tuple[str, str, str]:
    """Spell a site in layout S1: start, down and up."""
    return k1(site, "lycoris_text_model_", "lycoris_")


def c1(site: Site) -> tuple[str, str, str]:
    """Spell a site in layout C1: start, down and up."""
    _, path, unet = split(site)
    return k1(f"unet.{compvis(path)}") if unet else k1(site)


def c2(site: Site, unet: str = "diffusion_model.") -> tuple[str, str, str]:
    """Spell a site in layout C2: start, down and up."""
    _, path, is_unet = split(site)
    name = unet + compvis(path) if is_unet else f"text_encoders.clip_l.transformer.text_model.{path}"
    return f"{name}.", "lora_A.weight", "lora_B.weight"


def c3(site: Site) -> tuple[str, str, str]:
    """Spell a site in layout C3: start, down and up."""
    return c2(site, "")


def o2(site: Site) -> tuple[str, str, str]:
    """Spell a site in layout O2: start, down and up."""
    return f"{site}.", "lora_down.weight", "lora_up.weight"


def p1(site: Site) -> tuple[str, str, str]:
    """Spell a site in layout P1: start, down and up."""
    return f"base_model.model.{split(site)[1]}.", "lora_A.weight", "lora_B.weight"


def p2(site: Site) -> tuple[str, str, str]:
    """Spell a site in layout P2: start, down and up."""
    return f"base_model.model.{split(site)[1]}.", "lora_A.default.weight", "lora_B.default.weight"


def p2_unet(site: Site) -> tuple[str, str, str]:
    """Spell a site in layout P2 under `unet.`: start, down and up."""
    return f"{site}.", "lora_A.default.weight", "lora_B.default.weight"


LAYOUTS: Mapping[str, tuple[Callable[[Site], tuple[str, str, str]], str, str]] = {
    "D1": (d1, "diffusers", "all"),
    "D2": (d2, "diffusers", "all"),
    "D2 bare": (d2_bare, "diffusers", "all"),
    "D3": (d3, "diffusers-old", "unet attention"),
    "D4": (d4, "diffusers-old", "attention"),
    "P1": (p1, "peft", "all"),
    "P2": (p2, "peft", "all"),
    "P2 unet": (p2_unet, "peft", "all"),
    "K1": (k1, "kohya", "all"),
    "K1 flat text tower": (k_new, "kohya", "all"),
    "K2": (k2, "kohya", "all"),
    "C1": (c1, "kohya-compvis", "all"),
    "C2": (c2, "comfyui", "all"),
    "C3": (c3, "compvis", "unet"),
    "S1": (s1, "lycoris", "all"),
    "O2": (o2, "onetrainer", "all"),
}
"""Layout -> function that spells a site (start, down, up), name in loraudit, and sites that fit."""
WITH_ALPHA = {"K1", "K1 flat text tower", "K2", "C1", "C2", "C3", "S1", "O2"}
"""Layouts with a tensor for alpha."""


def holds(sites: str, site: Site) -> bool:
    """Tell whether a layout for `sites` can hold `site`."""
    if "attention" in sites and not site.endswith(ATTENTION):
        return False
    return site.startswith("unet.") or "unet" not in sites


def kernel(site: Site, factors: Factors) -> tuple[np.ndarray, np.ndarray]:
    """Return up and down in the shapes of the module."""
    size = 3 if site.endswith((".conv1", ".conv", "conv_in")) else 1
    if size == 1 and not site.endswith(("proj_in", "proj_out")):
        return factors.up, factors.down
    return factors.up[:, :, None, None], factors.down.reshape(factors.rank, -1, size, size)


def write(
    layout: str, factors: Mapping[Site, Factors], alphas: Mapping[Site, float] | None = None
) -> Tensors:
    """Return the tensors of a file; the scale alpha / r is taken out of the up matrices."""
    spell = LAYOUTS[layout][0]
    tensors: Tensors = {}
    for site, own in factors.items():
        start, down_suffix, up_suffix = spell(site)
        up, down = kernel(site, own)
        alpha = (alphas or {}).get(site)
        if alpha is not None:
            tensors[f"{start}alpha"] = np.array(alpha, np.float32)
            up = up * np.float32(own.rank / alpha)
        tensors[start + up_suffix] = np.ascontiguousarray(up)
        tensors[start + down_suffix] = np.ascontiguousarray(down)
    return tensors


def peft_config(**fields: object) -> str:
    """Return the text of an `adapter_config.json` with `fields`."""
    return json.dumps({"peft_type": "LORA", "r": 8, "lora_alpha": 8} | fields)

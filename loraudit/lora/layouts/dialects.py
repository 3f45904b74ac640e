"""Layouts ("dialects") in which programs write a LoRA, as data: prefix, module path, suffix.

Sources: diffusers `utils/state_dict_utils.py` (PEFT_TO_DIFFUSERS, UNET_TO_DIFFUSERS, DIFFUSERS_OLD_TO_PEFT)
and `models/cross_attention.py` of 0.14; kohya-ss/sd-scripts `networks/lora.py`; peft
`utils/save_and_load.py`; ComfyUI `comfy/lora.py` and `comfy/weight_adapter/`; LyCORIS `modules/`; OneTrainer
`modules/modelSaver/mixin/LoRASaverMixin.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, TypeAlias

from loraudit.lora.forms import Role
from loraudit.lora.layouts.names import Naming, sites_by_name
from loraudit.lora.matrices import Site

__all__ = ["ASIDE", "DIALECTS", "SAVED", "SAVED_BIAS", "Aside", "Dialect", "Found", "Part", "Spelling"]

Aside = Literal["alpha", "dora_scale", "dora_vector", "bias", "base", "whole", "saved"]
"""Kinds of tensor beside the parts of an update: alpha, DoRA's magnitude as LyCORIS or as peft names it, an
update of the bias, the base's own, one that may be trained or the base's, one that is trained."""
Part: TypeAlias = Role | Aside

SAVED: Final = "a weight trained in place of the base's, which the audit does not look at"
SAVED_BIAS: Final = "a bias trained in place of the base's, which the audit does not look at"
ASIDE: Final[Mapping[Part, str]] = {
    "bias": "an update of the bias, which the audit does not look at",
    "base": "the base's own weight, not part of the LoRA",
    "whole": "the base's own weight or one trained in its place; the audit looks at neither",
    "saved": SAVED,
}
"""Tensors beside an update that leave it as it is, and why they are not read."""


@dataclass(frozen=True)
class Found:
    """Key that is understood as far as its module."""

    site: Site
    module: str
    """Module path as the file spells it, without the prefix."""
    part: Part | None
    """Part that the suffix names; None if the dialect knows no such suffix."""


@dataclass(frozen=True)
class Spelling:
    """Spelling of keys: a prefix, a module path and a suffix."""

    prefix: str
    components: tuple[str, ...]
    """Components that the prefix can stand for: `unet`, `text_encoder`."""
    naming: Naming
    suffixes: Mapping[str, Part]
    """Part by the suffix that follows the module path and its dot."""

    def find(self, key: str) -> Found | None:
        """Find the module of `key`, which starts with the prefix; None if no known base has it."""
        rest = key[len(self.prefix) :]
        for component in self.components:
            names = sites_by_name(component, self.naming)
            # A file can hold many thousands of keys with many dots: no more is tried than the names have.
            parts = rest.split(".", names.depth)
            if parts[0] in names.heads:
                tried = [".".join(parts[:end]) for end in range(len(parts) - 1, 0, -1)]
            elif self.naming.endswith("underscored") and rest.count(".") > 1:
                # diffusers' convert_state_dict_to_kohya leaves the last two dots of each key; one of them is
                # in the path where DoRA's magnitude has no ".weight" after it.
                tried = ["_".join(rest.split(".", 2)[:2])]
            else:
                continue
            for name in tried:
                if (site := names.sites.get(name)) is not None:
                    module = rest[: len(name)]
                    return Found(site, module, self.suffixes.get(rest[len(module) + 1 :]))
        return None


@dataclass(frozen=True)
class Dialect:
    """Layout of tensor names."""

    name: str
    spellings: tuple[Spelling, ...]

    @cached_property
    def prefixes(self) -> tuple[str, ...]:
        """Prefixes of the keys; empty ones, which say nothing, are left out."""
        return tuple(spelling.prefix for spelling in self.spellings if spelling.prefix)

    def find(self, key: str) -> Found | None:
        """Find the module of `key`; None if no known base has one of that name."""
        unexplained = None
        for spelling in self.spellings:
            found = spelling.find(key) if key.startswith(spelling.prefix) else None
            if found is not None and found.part is not None:
                return found
            unexplained = unexplained or found
        return unexplained


_LYCORIS: Final[Mapping[str, Part]] = {
    **{
        name: name
        for name in (
            "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2",
            "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2",
        )
    },
    "diff": "diff",
    "diff_b": "bias",
    "alpha": "alpha",
    "dora_scale": "dora_scale",
}  # fmt: skip
_AB: Final[Mapping[str, Part]] = {
    "lora_A.weight": "down",
    "lora_B.weight": "up",
    "lora_A": "down",
    "lora_B": "up",
    "lora_B.bias": "bias",
    # peft writes the first, OneTrainer the second.
    "lora_magnitude_vector": "dora_vector",
    "lora_magnitude_vector.weight": "dora_vector",
}
# All that ComfyUI reads after any name, by `comfy/weight_adapter/lora.py`.
_KOHYA: Final[Mapping[str, Part]] = {
    "lora_down.weight": "down",
    "lora_up.weight": "up",
    "lora_mid.weight": "mid",
    **_LYCORIS,
    **_AB,
}
_DIFFUSERS: Final[Mapping[str, Part]] = {
    "lora.down.weight": "down",
    "lora.up.weight": "up",
    "lora_linear_layer.down.weight": "down",
    "lora_linear_layer.up.weight": "up",
    "alpha": "alpha",
    "dora_scale": "dora_scale",
    **_AB,
}
_PROCESSORS: Final[Mapping[str, Part]] = {"down.weight": "down", "up.weight": "up"}
# A state dict that was saved without `get_peft_model_state_dict` names the adapter, and may hold the base.
_PEFT_RAW: Final[Mapping[str, Part]] = {
    "lora_A.default.weight": "down",
    "lora_B.default.weight": "up",
    "lora_B.default.bias": "bias",
    "lora_magnitude_vector.default": "dora_vector",
    "lora_magnitude_vector.default.weight": "dora_vector",
    "base_layer.weight": "base",
    "base_layer.bias": "base",
    "original_module.weight": "base",
    "original_module.bias": "base",
    "modules_to_save.default.weight": "saved",
    "modules_to_save.default.bias": "saved",
    "weight": "whole",
    "bias": "whole",
}
_PEFT: Final[Mapping[str, Part]] = {**_AB, **_LYCORIS, **_PEFT_RAW}

_UNET: Final = ("unet",)
_TEXT: Final = ("text_encoder",)
_BOTH: Final = ("unet", "text_encoder")
_KOHYA_TEXT: Final = (
    Spelling("lora_te_", _TEXT, "underscored", _KOHYA),
    Spelling("lora_te1_", _TEXT, "underscored", _KOHYA),
)
_COMFY_TEXT: Final = Spelling("text_encoders.clip_l.transformer.", _TEXT, "dotted", _KOHYA)

DIALECTS: Final[tuple[Dialect, ...]] = (
    Dialect(
        "diffusers",
        (
            Spelling("unet.", _UNET, "dotted", _DIFFUSERS),
            Spelling("text_encoder.", _TEXT, "dotted", _DIFFUSERS),
            Spelling("", _BOTH, "dotted", _DIFFUSERS),
        ),
    ),
    Dialect(
        "diffusers-old",
        (
            Spelling("unet.", _UNET, "processors", _PROCESSORS),
            Spelling("text_encoder.", _TEXT, "processors", _PROCESSORS),
            # From 0.22 to 0.24 only the UNet had processors.
            Spelling("text_encoder.", _TEXT, "dotted", _DIFFUSERS),
            Spelling("", _UNET, "processors", _PROCESSORS),
        ),
    ),
    Dialect("kohya", (Spelling("lora_unet_", _UNET, "underscored", _KOHYA), *_KOHYA_TEXT)),
    Dialect("kohya-compvis", (Spelling("lora_unet_", _UNET, "compvis underscored", _KOHYA), *_KOHYA_TEXT)),
    Dialect(
        "peft",
        (
            Spelling("base_model.model.", _BOTH, "dotted", _PEFT),
            Spelling("unet.", _UNET, "dotted", _PEFT_RAW),
            Spelling("text_encoder.", _TEXT, "dotted", _PEFT_RAW),
            Spelling("", _BOTH, "dotted", _PEFT_RAW),
        ),
    ),
    Dialect("comfyui", (Spelling("diffusion_model.", _UNET, "compvis", _KOHYA), _COMFY_TEXT)),
    Dialect(
        "compvis",
        (
            Spelling("", _UNET, "compvis", _KOHYA),
            _COMFY_TEXT,
            # OneTrainer's "OMI" layout, by https://github.com/Open-Model-Initiative/OMI-Model-Standards.
            Spelling("unet.", _UNET, "compvis", _KOHYA),
            Spelling("clip_l.", _TEXT, "dotted", _KOHYA),
        ),
    ),
    Dialect("lycoris", (Spelling("lycoris_", _BOTH, "underscored", _KOHYA),)),
    Dialect(
        "onetrainer",
        (
            Spelling("unet.", _UNET, "dotted", _KOHYA),
            Spelling("text_encoder.", _TEXT, "dotted", _KOHYA),
        ),
    ),
)
"""Layouts that are read; of two that explain a file equally well the first is taken."""

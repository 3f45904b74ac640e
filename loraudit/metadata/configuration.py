"""peft's configuration as a scrubbed copy keeps it: what decides which module gets which scale.

It stands in `adapter_config.json`, and in diffusers' `lora_adapter_metadata` after the name of a component.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from loraudit.errors import NotScannable
from loraudit.hiding import is_public
from loraudit.metadata.base_names import base_name
from loraudit.text import parse_json

__all__ = ["allowed_adapter", "allowed_config", "is_small", "loses_scale", "parsed"]

_LONGEST: Final = 1_000_000
"""Limit in characters; the reader of the weights has the same."""
_LARGEST: Final = 10_000
_COUNT: Final = 500
"""Limit on the entries of a list or table."""
_PREFIXES: Final = frozenset(
    {"unet", "text_encoder", "text_encoder_2", "text_encoder_3", "transformer", "prior"}
)
_WORDS: Final[Mapping[str, frozenset[str]]] = {
    "peft_type": frozenset({"LORA", "LOHA", "LOKR"}),
    "bias": frozenset({"none", "all", "lora_only"}),
    "init_lora_weights": frozenset(
        {"gaussian", "eva", "olora", "pissa", "corda", "loftq", "orthogonal"}
        | {f"pissa_niter_{count}" for count in (*range(1, 33), 64, 128)}
    ),
}
_FLAG_NAMES: Final = """
decompose_both fan_in_fan_out inference_mode init_lora_weights init_weights lora_bias rank_dropout_scale
use_dora use_effective_conv2d use_rslora
"""
_FLAGS: Final = frozenset(_FLAG_NAMES.split())
_NUMBERS: Final = frozenset(
    {"alpha", "decompose_factor", "lora_alpha", "lora_dropout", "module_dropout", "r", "rank_dropout"}
)
_TABLES: Final = frozenset({"rank_pattern", "alpha_pattern"})
_MODULES: Final = frozenset({"target_modules", "exclude_modules", "modules_to_save", "layers_pattern"})
_SCALE: Final = frozenset(
    {"r", "lora_alpha", "alpha", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "peft_type"}
)
"""Fields that decide the scale of an update."""


def allowed_config(text: str, provenance: bool = False) -> str | None:
    """Rebuild peft's `adapter_config.json` of what decides which module gets which scale; None if it is none.

    With `provenance`, the name of a known base model stays too.
    """
    table = parsed(text)
    if table is None:
        return None
    kept = {name: value for name, value in table.items() if _is_field(name, value)}
    base = table.get("base_model_name_or_path")
    named = base_name(base) if provenance and isinstance(base, str) else None
    kept |= {"base_model_name_or_path": named} if named else {}
    return json.dumps(kept, indent=2, sort_keys=True) + "\n"


def loses_scale(old: str, new: str) -> bool:
    """Tell whether the configuration `new` lacks a field of `old` that decides the scale of an update."""
    before, after = parsed(old), parsed(new)
    if len(old) > _LONGEST:
        return True
    names = (before or {}).keys() - (after or {}).keys()
    return any(name.rpartition(".")[2] in _SCALE and before and before[name] for name in names)


def allowed_adapter(text: str) -> str | None:
    """Rebuild diffusers' `lora_adapter_metadata`: fields of peft's `LoraConfig` after a component's name."""
    table = parsed(text)
    if table is None:
        return None
    kept = {}
    for name, value in table.items():
        prefix, dot, field = name.rpartition(".")
        if (not dot or prefix in _PREFIXES) and _is_field(field, value):
            kept[name] = value
    return json.dumps(kept, indent=2, sort_keys=True)


def _is_field(name: str, value: Any) -> bool:  # noqa: ANN401
    """Tell whether a configuration may say `value` of its field `name`."""
    known = {*_WORDS, *_FLAGS, *_NUMBERS, *_TABLES, *_MODULES}
    if value is None:
        return name in known
    if isinstance(value, bool):
        return name in _FLAGS
    if isinstance(value, str):
        return value in _WORDS.get(name, ()) or (name in _MODULES and _is_module(value))
    if isinstance(value, dict):
        sound = len(value) <= _COUNT and all(_is_module(one) and is_small(n) for one, n in value.items())
        return name in _TABLES and sound
    if isinstance(value, list):
        sound = len(value) <= _COUNT and all(isinstance(one, str) and _is_module(one) for one in value)
        return name in _MODULES and sound
    return name in _NUMBERS and is_small(value)


def _is_module(name: str) -> bool:
    """Tell whether `name` is a module's, as peft's patterns spell it, in words of networks alone.

    Numbers are no more than words: by themselves they would spell a date or a telephone number.
    """
    plain = name.removeprefix("^").removesuffix("$").replace("\\.", ".")
    numbers = re.findall(r"[0-9]+", plain)
    return name == "all-linear" or (
        is_public(plain) and len(numbers) <= len(re.findall(r"[A-Za-z][A-Za-z0-9]*", plain))
    )


def is_small(value: object) -> bool:
    """Tell whether `value` is a small number of two decimals at most, or the root of a small whole number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LARGEST:
        return False
    # rsLoRA's alphas are roots of ranks.
    return round(value, 2) == value or abs(value**2 - round(value**2)) < 1e-9 * value**2


def parsed(text: str) -> dict[str, Any] | None:
    """Parse the JSON object `text`; None if it is none, or longer than any that programs write."""
    if len(text) > _LONGEST:
        return None
    try:
        value = parse_json(text, "it")
    except NotScannable:
        return None
    return value if isinstance(value, dict) else None

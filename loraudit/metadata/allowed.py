"""Metadata that a scrubbed copy keeps: closed vocabularies and small numbers, nothing that could be a name.

Readers of what is kept: A1111 `ss_base_model_version`, `ss_v2`; kohya's own scripts `ss_network_*`; diffusers
`lora_adapter_metadata` and peft `adapter_config.json`, for the scale; ComfyUI `modelspec.*`, for the kind of
model.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from loraudit.errors import NotScannable
from loraudit.hiding import is_public, secrets
from loraudit.text import parse_json

__all__ = ["KEPT_KEYS", "PROVENANCE_KEYS", "allowed_config", "allowed_metadata", "loses_scale"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NUMBER: Final = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,2}0*)?")
_LARGEST: Final = 10_000
_COUNT: Final = 500
"""Limit on the entries of a list or table."""
_SIZES: Final = frozenset(map(str, range(64, 8193, 8)))
_BASE_WORDS: Final = """
alpha anima aura auraflow base bf16 black cascade chroma ckpt compvis controlnet cosmos dev diffusers
diffusion dit dora ema emaonly fill flux forest fp16 fp32 ft huggingface hunyuan hyper image inpaint
inpainting inversion kolors kontext flux1 flux2 labs large lcm lightning locon loha lokr lora lumina
lumina2 lycoris medium mini mse nonema nsfw oft only original pixart pruned qwen refiner runwayml safetensors
schnell sd sd1 sd15 sd2 sd3 sd3m sdxl sigma small stabilityai stable textual turbo v vae video wan x xl zimage
"""
_BASES: Final = frozenset(_BASE_WORDS.split())
"""Words that names of base models and of architectures are made of."""
_BASE_NUMBER: Final = re.compile(r"v?[0-9]{1,2}|512|768|1024")
_BASE_NUMBERS: Final = 3
"""Limit on the numbers in the name of a base model: more would spell a telephone number."""
_BASE_PARTS: Final = 12


def _one_of(*words: str) -> Callable[[str], bool]:
    return frozenset(words).__contains__


def _is_base(text: str) -> bool:
    """Tell whether `text` names a base model or architecture in words that are known."""
    parts = re.split(r"[._/-]", text[:200])
    numbers = sum(_BASE_NUMBER.fullmatch(part) is not None for part in parts)
    known = all(part.lower() in _BASES or _BASE_NUMBER.fullmatch(part) for part in parts)
    return (
        known
        and len(text) <= 100
        and len(parts) <= _BASE_PARTS
        and numbers <= min(_BASE_NUMBERS, len(parts) - 1)
    )


def _is_rank(text: str) -> bool:
    return re.fullmatch(r"[1-9][0-9]{0,3}", text, re.ASCII) is not None


def _is_resolution(text: str) -> bool:
    return set(text.split("x")) <= _SIZES and text.count("x") <= 1


_VALUES: Final[Mapping[str, Callable[[str], bool]]] = {
    "format": _one_of("pt", "np", "tf", "flax", "jax", "mlx", "numpy"),
    "ss_base_model_version": _is_base,
    "ss_v2": _one_of("True", "False"),
    "ss_network_module": _one_of(
        *(
            f"networks.{name}"
            for name in (
                "lora", "lora_fa", "lora_flux", "lora_sd3", "lora_lumina", "lora_hunyuan_image",
                "lora_anima", "dylora", "oft", "oft_flux", "loha", "lokr",
            )
        ),
        "lycoris.kohya", "lycoris.locon",
    ),
    "ss_network_dim": lambda text: _is_rank(text) or text in {"Dynamic", "None"},
    "ss_network_alpha": lambda text: _NUMBER.fullmatch(text) is not None or text in {"Dynamic", "None"},
    "ss_clip_skip": _one_of("None", *map(str, range(1, 13))),
    "modelspec.sai_model_spec": _one_of("1.0.0", "1.0.1", "1.0.2", "1.1.0"),
    "modelspec.architecture": _is_base,
    "modelspec.implementation": _one_of(
        "diffusers", "https://github.com/huggingface/diffusers", "https://github.com/comfyanonymous/ComfyUI",
        "https://github.com/Stability-AI/generative-models", "https://github.com/Stability-AI/stablediffusion",
        "https://github.com/Stability-AI/sd3.5", "https://github.com/CompVis/stable-diffusion",
        "https://github.com/black-forest-labs/flux", "https://github.com/Alpha-VLLM/Lumina-Image-2.0",
    ),
    "modelspec.prediction_type": _one_of("epsilon", "v", "v_prediction", "sample", "flow", "flow_matching"),
    "modelspec.resolution": _is_resolution,
}  # fmt: skip
"""Keys that are kept, and the test that each value must pass."""
_NETWORK_ARGS: Final = "ss_network_args"
_ADAPTER: Final = "lora_adapter_metadata"
KEPT_KEYS: Final = frozenset({*_VALUES, _NETWORK_ARGS, _ADAPTER})
"""Allow-list of metadata keys."""

_LICENCES: Final = """
afl-3.0 agpl-3.0 apache-2.0 bigscience-bloom-rail-1.0 bigscience-openrail-m bsd bsd-2-clause
bsd-3-clause cc cc-by-2.0 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0
cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0
cc0-1.0 creativeml-openrail-m flux-1-dev-non-commercial-license gpl gpl-2.0 gpl-3.0 lgpl-3.0 mit mpl-2.0
odbl openrail openrail++ other stabilityai-ai-community unknown unlicense wtfpl
"""
_LICENCE: Final = frozenset(_LICENCES.split())
_HASH: Final = re.compile(
    r"(?:0x)?(?:[0-9a-fA-F]{8}|[0-9a-fA-F]{10}|[0-9a-fA-F]{12}|[0-9a-fA-F]{40}|[0-9a-fA-F]{64})"
)
_HASH_KEYS: Final = (
    "sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256", "ss_sd_model_hash",
    "ss_new_sd_model_hash",
)  # fmt: skip
_BASE_KEYS: Final = ("ss_sd_model_name", "base_model", "base_model_name_or_path", "modelspec.base_model")
_LICENCE_KEYS: Final = ("modelspec.license", "license")
PROVENANCE_KEYS: Final = frozenset({*_HASH_KEYS, *_BASE_KEYS, *_LICENCE_KEYS})
"""Keys that are kept on demand: hashes, the base model and the licence."""

_WORDS: Final[Mapping[str, frozenset[str]]] = {
    "algo": _words(
        """
abba boft diag-oft dylora full glora ia3 locon loha lokr lora norms oft
"""
    ),
    "preset": _words(
        """
attn-mlp attn-only full full-lin unet-convblock-only unet-only unet-transformer-only
"""
    ),
}
_NETWORK_NUMBERS: Final = _words(
    """
constraint conv_alpha conv_dim decompose_factor dropout factor loraplus_lr_ratio
loraplus_text_encoder_lr_ratio loraplus_unet_lr_ratio module_dropout rank_dropout unit
"""
)
_NETWORK_LISTS: Final = frozenset({"block_dims", "block_alphas", "conv_block_dims", "conv_block_alphas"})
_NETWORK_FLAGS: Final = _words(
    """
bypass_mode decompose_both disable_conv_cp dora_wd full_matrix rank_dropout_scale rescaled rs_lora
split_qkv train_norm train_on_input train_t5xxl unbalanced_factorization use_conv_cp use_cp use_dora
use_rslora use_scalar use_tucker wd_on_out wd_on_output
"""
)
_PREFIXES: Final = frozenset(
    {"unet", "text_encoder", "text_encoder_2", "text_encoder_3", "transformer", "prior"}
)
_ADAPTER_WORDS: Final[Mapping[str, frozenset[str]]] = {
    "peft_type": frozenset({"LORA", "LOHA", "LOKR"}),
    "bias": frozenset({"none", "all", "lora_only"}),
    "init_lora_weights": frozenset(
        {"gaussian", "eva", "olora", "pissa", "corda", "loftq", "orthogonal"}
        | {f"pissa_niter_{count}" for count in (*range(1, 33), 64, 128)}
    ),
}
_ADAPTER_FLAGS: Final = _words(
    """
decompose_both fan_in_fan_out inference_mode init_lora_weights init_weights lora_bias rank_dropout_scale
use_dora use_effective_conv2d use_rslora
"""
)
_ADAPTER_NUMBERS: Final = _words(
    """
alpha decompose_factor lora_alpha lora_dropout module_dropout r rank_dropout
"""
)
_ADAPTER_TABLES: Final = frozenset({"rank_pattern", "alpha_pattern"})
_ADAPTER_MODULES: Final = frozenset(
    {"target_modules", "exclude_modules", "modules_to_save", "layers_pattern"}
)
_SCALE: Final = (
    "r",
    "lora_alpha",
    "alpha",
    "rank_pattern",
    "alpha_pattern",
    "use_rslora",
    "use_dora",
    "peft_type",
)
"""Fields that decide the scale of an update."""


def allowed_metadata(metadata: Mapping[str, str], provenance: bool = False) -> dict[str, str]:
    """Take the part of `metadata` that loaders need and that can say nothing else.

    With `provenance`, hashes, the name of a known base model and a known licence stay too.
    """
    kept = {key: metadata[key] for key, test in _VALUES.items() if key in metadata and test(metadata[key])}
    for key, rebuild in ((_NETWORK_ARGS, _network_args), (_ADAPTER, _adapter_metadata)):
        text = rebuild(metadata[key]) if key in metadata else None
        if text is not None:
            kept[key] = text
    # Where a secret was, nothing of the value is worth the risk.
    kept = {key: text for key, text in kept.items() if not secrets(metadata[key])}
    return kept | (_provenance(metadata) if provenance else {})


def allowed_config(text: str, provenance: bool = False) -> str | None:
    """Rebuild peft's `adapter_config.json` of what decides which module gets which scale; None if it is none.

    With `provenance`, the name of a known base model stays too.
    """
    table = _parsed(text)
    if table is None:
        return None
    kept = {name: value for name, value in table.items() if _is_field(name, value)}
    base = table.get("base_model_name_or_path")
    named = _base_name(base) if provenance and isinstance(base, str) else None
    return (
        json.dumps(kept | ({"base_model_name_or_path": named} if named else {}), indent=2, sort_keys=True)
        + "\n"
    )


def loses_scale(old: str, new: str) -> bool:
    """Tell whether the configuration `new` lacks a field of `old` that decides the scale of an update."""
    before, after = _parsed(old), _parsed(new)
    names = (before or {}).keys() - (after or {}).keys()
    return any(name.rpartition(".")[2] in _SCALE and before and before[name] for name in names)


def _provenance(metadata: Mapping[str, str]) -> dict[str, str]:
    kept = {key: metadata[key] for key in _HASH_KEYS if _HASH.fullmatch(metadata.get(key, ""))}
    kept |= {key: metadata[key] for key in _LICENCE_KEYS if metadata.get(key, "").lower() in _LICENCE}
    bases = {key: _base_name(metadata[key]) for key in _BASE_KEYS if key in metadata}
    return kept | {key: name for key, name in bases.items() if name}


def _base_name(text: str) -> str | None:
    """Take a base model's name, of a path the last part; None if it holds a word that is not known."""
    name = text if re.fullmatch(r"[\w.-]+(?:/[\w.-]+)?", text, re.ASCII) else re.split(r"[/\\]", text)[-1]
    return name if _is_base(name) else None


def _network_args(text: str) -> str | None:
    """Rebuild kohya's and LyCORIS's arguments as JSON: known names with small numbers or a word of theirs."""
    table = _parsed(text)
    if table is None:
        return "null" if text == "null" else None
    return json.dumps({name: value for name, value in table.items() if _is_argument(name, value)})


def _is_argument(name: str, value: object) -> bool:
    if value is None or isinstance(value, bool):
        return name in _NETWORK_FLAGS | _NETWORK_NUMBERS
    if isinstance(value, str):
        if name in _WORDS:
            return value in _WORDS[name]
        if name in _NETWORK_LISTS:
            parts = value.replace(" ", "").split(",")
            return len(parts) <= 64 and all(_NUMBER.fullmatch(part) for part in parts)
        if name in _NETWORK_FLAGS:
            return value in {"True", "False", "None", "true", "false", "1", "0"}
        return name in _NETWORK_NUMBERS and _NUMBER.fullmatch(value) is not None
    return name in _NETWORK_NUMBERS | _NETWORK_FLAGS and _is_number(value)


def _adapter_metadata(text: str) -> str | None:
    """Rebuild diffusers' `lora_adapter_metadata`: fields of peft's `LoraConfig` after a component's name."""
    table = _parsed(text)
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
    known = {*_ADAPTER_WORDS, *_ADAPTER_FLAGS, *_ADAPTER_NUMBERS, *_ADAPTER_TABLES, *_ADAPTER_MODULES}
    if value is None:
        return name in known
    if isinstance(value, bool):
        return name in _ADAPTER_FLAGS
    if isinstance(value, str):
        return value in _ADAPTER_WORDS.get(name, ()) or (name in _ADAPTER_MODULES and _is_module(value))
    if isinstance(value, dict):
        sound = len(value) <= _COUNT and all(_is_module(one) and _is_number(n) for one, n in value.items())
        return name in _ADAPTER_TABLES and sound
    if isinstance(value, list):
        sound = len(value) <= _COUNT and all(isinstance(one, str) and _is_module(one) for one in value)
        return name in _ADAPTER_MODULES and sound
    return name in _ADAPTER_NUMBERS and _is_number(value)


def _is_module(name: str) -> bool:
    """Tell whether `name` is a module's, as peft's patterns spell it, in words of networks alone."""
    return name == "all-linear" or is_public(name.removeprefix("^").removesuffix("$").replace("\\.", "."))


def _is_number(value: object) -> bool:
    """Tell whether `value` is a small number of two decimals at most, or the root of a small whole number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LARGEST:
        return False
    # rsLoRA's alphas are roots of ranks.
    return round(value, 2) == value or abs(value**2 - round(value**2)) < 1e-9 * value**2


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        value = parse_json(text, "it")
    except NotScannable:
        return None
    return value if isinstance(value, dict) else None

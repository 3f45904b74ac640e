"""Metadata that a scrubbed copy keeps: closed vocabularies and small numbers, nothing that could be a name.

Readers of what is kept: A1111 `ss_base_model_version`, `ss_v2`; kohya's own scripts `ss_network_*`; diffusers
`lora_adapter_metadata` and peft `adapter_config.json`, for the scale; ComfyUI `modelspec.*`, for the kind of
model.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Final

from loraudit.hiding import secrets
from loraudit.metadata.base_names import base_name, is_base
from loraudit.metadata.configuration import allowed_adapter, is_small, parsed

__all__ = ["KEPT_KEYS", "PROVENANCE_KEYS", "allowed_metadata"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NUMBER: Final = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,2}0*)?")
_SIZES: Final = frozenset(map(str, range(64, 8193, 8)))


def _one_of(*words: str) -> Callable[[str], bool]:
    return frozenset(words).__contains__


def _is_rank(text: str) -> bool:
    return re.fullmatch(r"[1-9][0-9]{0,3}", text, re.ASCII) is not None


def _is_resolution(text: str) -> bool:
    return set(text.split("x")) <= _SIZES and text.count("x") <= 1


_VALUES: Final[Mapping[str, Callable[[str], bool]]] = {
    "format": _one_of("pt", "np", "tf", "flax", "jax", "mlx", "numpy"),
    "ss_base_model_version": is_base,
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
    "modelspec.architecture": is_base,
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
    r"(?:0x)?(?=[0-9]*[a-fA-F])(?:[0-9a-fA-F]{8}|[0-9a-fA-F]{10}|[0-9a-fA-F]{12}|[0-9a-fA-F]{40}|[0-9a-fA-F]{64})"
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


def allowed_metadata(metadata: Mapping[str, str], provenance: bool = False) -> dict[str, str]:
    """Take the part of `metadata` that loaders need and that can say nothing else.

    With `provenance`, hashes, the name of a known base model and a known licence stay too.
    """
    kept = {key: metadata[key] for key, test in _VALUES.items() if key in metadata and test(metadata[key])}
    for key, rebuild in ((_NETWORK_ARGS, _network_args), (_ADAPTER, allowed_adapter)):
        text = rebuild(metadata[key]) if key in metadata else None
        if text is not None:
            kept[key] = text
    # Where a secret was, nothing of the value is worth the risk.
    kept = {key: text for key, text in kept.items() if not secrets(metadata[key])}
    return kept | (_provenance(metadata) if provenance else {})


def _provenance(metadata: Mapping[str, str]) -> dict[str, str]:
    kept = {key: metadata[key] for key in _HASH_KEYS if _HASH.fullmatch(metadata.get(key, ""))}
    kept |= {key: metadata[key] for key in _LICENCE_KEYS if metadata.get(key, "").lower() in _LICENCE}
    bases = {key: base_name(metadata[key]) for key in _BASE_KEYS if key in metadata}
    return kept | {key: name for key, name in bases.items() if name}


def _network_args(text: str) -> str | None:
    """Rebuild kohya's and LyCORIS's arguments as JSON: known names with small numbers or a word of theirs."""
    table = parsed(text)
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
    return name in _NETWORK_NUMBERS | _NETWORK_FLAGS and is_small(value)

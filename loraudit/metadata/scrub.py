"""Scrubbed copies of safetensors files: nothing but what loaders need, and the tensors' bytes as they are.

The header is written anew. Metadata pass the allow-list below, each value checked or built anew from checked
parts. Tensors keep their three fields, in the order of their bytes. Equal keys, extra fields and padding are
therefore gone without a rule of their own.

Readers of what is kept: A1111 `ss_base_model_version`, `ss_v2`; kohya's own scripts `ss_network_*`; diffusers
`lora_adapter_metadata`, for the scale; ComfyUI `modelspec.*`, for the kind of model.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from loraudit.errors import LorauditError, NotScannable
from loraudit.files import write_atomic
from loraudit.hiding import secrets
from loraudit.lora.file.header import Header, read_header
from loraudit.metadata.patterns import addresses, paths
from loraudit.text import clean, parse_json

__all__ = ["KEPT_KEYS", "Removed", "Scrubbed", "allowed_metadata", "scrub"]

_BLOCK: Final = 1 << 20
_NUMBER: Final = r"-?\d{1,12}(?:\.\d{1,20})?(?:e[+-]?\d{1,3})?"
_VALUES: Final[Mapping[str, str]] = {
    "format": r"pt|np|tf|flax|jax|mlx|numpy",
    "ss_base_model_version": r"[a-z0-9_.-]{1,40}",
    "ss_v2": r"True|False",
    "ss_network_module": r"(?:networks|lycoris)(?:\.[a-z0-9_]{1,30}){1,2}",
    "ss_network_dim": rf"{_NUMBER}|Dynamic|None",
    "ss_network_alpha": rf"{_NUMBER}|Dynamic|None",
    "ss_clip_skip": r"\d{1,2}|None",
    "modelspec.sai_model_spec": r"\d{1,2}(?:\.\d{1,2}){1,2}",
    "modelspec.architecture": r"[a-z0-9_.-]{1,40}(?:/[a-z0-9_.-]{1,30})?",
    "modelspec.implementation": (
        r"diffusers|https://github\.com/(?:Stability-AI|CompVis|black-forest-labs|huggingface)/[\w.-]{1,40}"
    ),
    "modelspec.prediction_type": r"[a-z_]{1,20}",
    "modelspec.resolution": r"\d{1,5}(?:x\d{1,5})?",
}
"""Keys that are kept, and all that each may say."""
_NETWORK_ARGS: Final = "ss_network_args"
_ADAPTER: Final = "lora_adapter_metadata"
KEPT_KEYS: Final = frozenset({*_VALUES, _NETWORK_ARGS, _ADAPTER})
"""Allow-list of metadata keys."""

_NETWORK_FIELDS: Final = re.compile(
    r"algo|preset|factor|constraint|(?:conv_)?block_(?:dims|alphas)|conv_(?:dim|alpha)|(?:rank_|module_)?dropout|"
    r"(?:use|train|disable|decompose|rank|dora|rs|loraplus)_[a-z_]{1,30}"
)
_NETWORK_TEXT: Final = re.compile(rf"(?:{_NUMBER}[, ]{{0,2}}){{1,200}}|True|False|None|[a-z+-]{{1,12}}")
_ADAPTER_FIELD: Final = re.compile(
    r"(?:[a-z0-9_]{1,30}\.)?(?:r|lora_alpha|rank_pattern|alpha_pattern|target_modules|use_rslora|use_dora|lora_bias|"
    r"bias|peft_type|fan_in_fan_out|lora_dropout)"
)
_MODULE: Final = re.compile(r"[\w.^$\\-]{1,200}")


@dataclass(frozen=True)
class Removed:
    """Text of the old header that is not in the new one."""

    key: str
    """Metadata key, escaped for display, or the kind and place of a hidden text."""
    characters: int
    """Length of the removed text in characters."""
    in_part: bool = False
    """True if the key is still there, with less in it."""


@dataclass(frozen=True)
class Scrubbed:
    """Result of `scrub`."""

    kept: tuple[str, ...]
    """Metadata keys, sorted."""
    removed: tuple[Removed, ...]
    tensors: int
    """Number of tensors."""
    tensor_bytes: int
    tensor_sha256: str
    """SHA-256 in hex of the tensors' bytes, one after another: the same in both files."""


def scrub(path: Path, output: Path) -> Scrubbed:
    """Write the file at `path` to the new file `output`, with nothing in the header but what loaders need.

    The tensors are copied in blocks, so memory does not grow with the file. Raises `LorauditError` if a file
    cannot be read or written or `output` is there already, `NotScannable` if `path` is no sound safetensors
    file. Nothing is left behind then.
    """
    header = read_header(path)
    if output.exists() and output.samefile(path):
        raise LorauditError(
            "the output is the input, and the input stays as it is", "choose another path with -o"
        )
    if os.path.lexists(output):
        raise LorauditError(
            f"{clean(str(output), 300)} exists already", "remove it, or choose another path with -o"
        )
    metadata = allowed_metadata(header.metadata)
    digest = hashlib.sha256()
    write_atomic(output, _blocks(header, metadata, digest))
    return Scrubbed(
        kept=tuple(sorted(metadata)),
        removed=tuple(_removed(header, metadata)),
        tensors=len(header.tensors),
        tensor_bytes=sum(info.size for info in header.tensors.values()),
        tensor_sha256=digest.hexdigest(),
    )


def allowed_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Take the part of `metadata` that loaders need and that can say nothing else."""
    kept = {
        key: metadata[key]
        for key, pattern in _VALUES.items()
        if re.fullmatch(pattern, metadata.get(key, ""), re.ASCII)
    }
    for key, rebuild in ((_NETWORK_ARGS, _network_args), (_ADAPTER, _adapter)):
        text = rebuild(metadata[key]) if key in metadata else None
        if text is not None:
            kept[key] = text
    # The name of a version or of a module is free enough to spell a token.
    return {key: text for key, text in kept.items() if not (secrets(text) or addresses(text) or paths(text))}


def _blocks(header: Header, metadata: Mapping[str, str], digest: "hashlib._Hash") -> Iterator[bytes]:
    table: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    end = 0
    for key, info in sorted(header.tensors.items(), key=lambda item: (item[1].offset, item[1].size)):
        shape = list(info.shape)
        table[key] = {"dtype": info.dtype, "shape": shape, "data_offsets": [end, end + info.size]}
        end += info.size
    text = json.dumps(table, separators=(",", ":")).encode()
    # Spaces up to a multiple of 8 align the buffer, as the reference writer does.
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    with header.path.open("rb") as file:
        file.seek(header.size_bytes - end)
        while end:
            block = file.read(min(_BLOCK, end))
            if not block:
                raise NotScannable(f"{clean(header.path.name)} shrank while it was read", "try again")
            digest.update(block)
            end -= len(block)
            yield block


def _removed(header: Header, metadata: Mapping[str, str]) -> Iterator[Removed]:
    for key, text in sorted(header.metadata.items()):
        if metadata.get(key) != text:
            yield Removed(clean(key), len(text), key in metadata)
    for item in header.hidden:
        where = f" {clean(item.key)}" if item.key else ""
        yield Removed(f"(hidden) {item.kind}{where}", len(item.text))


def _network_args(text: str) -> str | None:
    """Rebuild kohya's and LyCORIS's arguments as JSON: known names with numbers or a word of theirs."""
    table = _parsed(text)
    if table is None:
        return "null" if text == "null" else None
    kept = {name: value for name, value in table.items() if _NETWORK_FIELDS.fullmatch(name) and _plain(value)}
    return json.dumps(kept)


def _plain(value: object) -> bool:
    if isinstance(value, str):
        return _NETWORK_TEXT.fullmatch(value) is not None
    return _is_number(value)


def _is_number(value: object) -> bool:
    """Tell whether `value` is nothing, a truth value, or a number too small to encode anything else."""
    return value is None or (isinstance(value, int | float) and abs(value) < 1e9)


def _adapter(text: str) -> str | None:
    """Rebuild the parts of peft's `LoraConfig` that decide which module gets which scale."""
    table = _parsed(text)
    if table is None:
        return None
    kept = {
        name: value
        for name, value in table.items()
        if _ADAPTER_FIELD.fullmatch(name) and _module_table(value)
    }
    return json.dumps(kept, indent=2, sort_keys=True)


def _module_table(value: Any) -> bool:  # noqa: ANN401
    """Tell whether `value` is a number, a word, or modules with or without a number each."""
    if isinstance(value, dict):
        return all(_MODULE.fullmatch(name) and _is_number(number) for name, number in value.items())
    if isinstance(value, list):
        return all(isinstance(name, str) and _MODULE.fullmatch(name) for name in value)
    if isinstance(value, str):
        return re.fullmatch(r"[A-Za-z_-]{1,20}", value, re.ASCII) is not None
    return _is_number(value)


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        value = parse_json(text, "it")
    except NotScannable:
        return None
    return value if isinstance(value, dict) else None

"""Configurations of a pipeline that somebody wrote: bounds, and the kinds of models that are no SD 1.x.

The libraries would build whatever sizes a configuration names, and fetch code, kernels or other weights that
it names.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from loraudit.base.refusal import refuse
from loraudit.files import read_within
from loraudit.text import clean

__all__ = ["FORBIDDEN", "check_config", "kind_by_sizes", "read_object", "read_text"]

LARGEST_CONFIG: Final = 1_000_000
"""Limit in bytes on a configuration; those of SD 1.x have a few thousand."""
FORBIDDEN: Final = (
    "auto_map",
    "attn_implementation",
    "kernel_config",
    "quantization",
    "transformers_weights",
)
"""Parts of keys by which a configuration would have code, kernels or other files loaded."""
_MOST: Final[Mapping[str, int]] = {
    "layers_per_block": 8,
    "transformer_layers_per_block": 16,
    "reverse_transformer_layers_per_block": 16,
    "num_hidden_layers": 64,
    "sample_size": 4096,
    "block_out_channels": 1 << 14,
    "cross_attention_dim": 1 << 14,
    "hidden_size": 1 << 14,
    "max_position_embeddings": 1 << 14,
    "in_channels": 1 << 10,
    "out_channels": 1 << 10,
    "latent_channels": 1 << 10,
}
"""Greatest sizes; SD 1.x and its kin need a tenth at most."""
_MOST_OTHER: Final = 1 << 20
_MOST_BLOCKS: Final = 8
"""Blocks that a list in a configuration may name."""
_MOST_LISTED: Final = 64
"""Values that any other list in a configuration may hold."""
_DEPTH: Final = 8

_INPUTS: Final[Mapping[int, str]] = {
    5: "a depth-to-image model",
    8: "an instruct-pix2pix model",
    9: "an inpainting model",
}
"""Input channels of a UNet that makes fewer => kind of the model; SD 1.x takes and makes 4."""
_CONTEXTS: Final[Mapping[int, str]] = {1024: "a Stable Diffusion 2.x model", 1280: "an SDXL refiner",
                                       2048: "an SDXL model"}  # fmt: skip
"""Width of the text that a UNet attends to => kind of the model; SD 1.x has 768."""


def kind_by_sizes(inputs: object, outputs: object, context: object) -> str | None:
    """Name the kind of a model by its UNet's channels and the width of its text; None if they do not tell."""
    beside = None if inputs == outputs else inputs
    for kinds, size, unit in ((_INPUTS, beside, "input channels"), (_CONTEXTS, context, "numbers a token")):
        if isinstance(size, int) and size in kinds:
            return f"it is {kinds[size]} ({size} {unit}), not Stable Diffusion 1.x"
    return None


def check_config(shown: str, name: str, kind: str, config: Mapping[str, Any]) -> None:
    """Raise `LorauditError` unless the configuration `name` of the class `kind` is safe to build from."""
    for key in config:
        if any(word in key for word in FORBIDDEN) and config[key] is not None:
            refuse(shown, f"{name} sets {clean(key, 60)}, which is not followed")
    for key, number in _numbers(config, "", 0):
        most = _MOST.get(key, _MOST_OTHER)
        if not (math.isfinite(number) and abs(number) <= most):
            refuse(shown, f"{name} sets {clean(key, 60)} beyond {most:,}")
    for key in ("block_out_channels", "down_block_types", "up_block_types"):
        blocks = config.get(key, [])
        if not isinstance(blocks, list) or len(blocks) > _MOST_BLOCKS:
            refuse(shown, f"{name} does not list {_MOST_BLOCKS} {key} at most")
    named = config.get("_class_name", kind)
    if named != kind:
        refuse(shown, f"{name.partition('/')[0]} is of the class {clean(str(named), 60)}, not {kind}")


def _numbers(value: object, key: str, depth: int) -> Iterator[tuple[str, float]]:
    """Yield the numbers in a configuration, each with the key that it stands under."""
    if depth > _DEPTH or (isinstance(value, list) and len(value) > _MOST_LISTED):
        yield key, math.inf
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _numbers(inner, name, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _numbers(inner, key, depth + 1)
    elif isinstance(value, int):
        yield key, value if value.bit_length() < 64 else math.inf
    elif isinstance(value, float):
        yield key, value


def read_object(shown: str, folder: Path, name: str, most: int = LARGEST_CONFIG) -> dict[str, Any]:
    """Read the file `name` of `folder`, a JSON object of at most `most` bytes. Raises `LorauditError`."""
    try:
        values = json.loads(read_text(shown, folder, name, most))
    except (ValueError, RecursionError):
        refuse(shown, f"{clean(name)} is not JSON")
    if not isinstance(values, dict):
        refuse(shown, f"{clean(name)} is not a JSON object")
    return values


def read_text(shown: str, folder: Path, name: str, most: int) -> str:
    """Read the file `name` of `folder`, a text of at most `most` bytes. Raises `LorauditError`."""
    try:
        return read_within(folder / name, most).decode()
    except OSError as error:
        refuse(shown, f"{clean(name)} cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        refuse(shown, f"{clean(name)} is no text")

"""Folders that are given as a base: what must be sound before a library opens them, and after.

Anybody may have written the folder. The libraries would build whatever sizes a configuration names, fill what
the weights lack with random numbers, take shards that an index names from pickles, and load an adapter or a
kernel that is named beside the weights.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import torch

from loraudit.base.memory import is_out_of_memory
from loraudit.errors import LorauditError
from loraudit.files import read_within
from loraudit.lora.file.header import read_header
from loraudit.lora.source.address import PEFT_CONFIG, PICKLES, WEIGHTS
from loraudit.text import clean

if TYPE_CHECKING:
    from loraudit.base.model import Base

__all__ = ["check_complete", "check_folder", "check_loaded", "refusing"]

_PARTS: Final[Mapping[str, tuple[str, str]]] = {
    "unet": ("diffusion_pytorch_model", "UNet2DConditionModel"),
    "vae": ("diffusion_pytorch_model", "AutoencoderKL"),
    "text_encoder": ("model", "CLIPTextModel"),
}
"""Folder of a pipeline => name of its file of weights, and class."""
_LARGEST_CONFIG: Final = 1_000_000
_LARGEST_INDEX: Final = 10_000_000
_LARGEST_WORDS: Final = 64_000_000
"""Limits in bytes on a configuration, an index and a file of the tokenizer; those of SD 1.x have a few MB."""
_FORBIDDEN: Final = (
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
_SPARE: Final = r"position_ids$|^(?:vision_model|visual_projection|text_projection|logit_scale)\b"
"""Tensors that weights of CLIP may hold beyond a text encoder."""
_DEPTH: Final = 8
_HINT: Final = "the folder is not a complete Stable Diffusion 1.x pipeline in safetensors"


@contextmanager
def refusing(name: str) -> Iterator[None]:
    """Raise `LorauditError` for whatever the libraries raise at the folder `name`, and keep them quiet.

    A lack of memory is left to `memory_may_run_out`.
    """
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging

    loud = [(one, one.get_verbosity()) for one in (logging, diffusers_logging)]
    for one, _ in loud:
        one.set_verbosity(50)
    try:
        yield
    except LorauditError:
        raise
    except Exception as error:  # the libraries raise errors of any class at what they do not expect
        if is_out_of_memory(error):
            raise
        raise LorauditError(f"cannot load the base '{clean(Path(name).name)}'", _HINT) from error
    finally:
        for one, verbosity in loud:
            one.set_verbosity(verbosity)


def check_folder(folder: Path) -> None:
    """Raise `LorauditError` unless the pipeline in `folder` can be loaded safely.

    Every file is there, is of its kind and names sizes in range. No weights are read beyond their headers.
    """
    for part, (weights, kind) in _PARTS.items():
        place = folder / part
        if not place.is_dir():
            _refuse(folder, f"it lacks the folder {part}")
        if (place / PEFT_CONFIG).exists():
            _refuse(folder, f"{part} holds an adapter ({PEFT_CONFIG}) beside the model")
        config = _object(folder, f"{part}/config.json", _LARGEST_CONFIG)
        _check_config(folder, part, config)
        named = config.get("_class_name", kind)
        if named != kind:
            _refuse(folder, f"{part} is of the class {clean(str(named), 60)}, not {kind}")
        _check_weights(folder, part, weights)
    _check_tokenizer(folder)


def check_complete(folder: Path, told: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise `LorauditError` unless the weights are those that the configurations describe, one for one.

    `told` maps each part to what its library tells of the load.
    """
    for part, loaded in told.items():
        lacking = [str(key) for key in loaded["missing_keys"]]
        over = [str(key) for key in loaded["unexpected_keys"] if not re.search(_SPARE, str(key))]
        for keys, verb in ((lacking, "lack"), (over, "have, beyond its config.json,")):
            if keys:
                first = clean(min(keys), 100)
                _refuse(folder, f"the weights of {part} {verb} {len(keys)} tensors, such as {first}")


def check_loaded(folder: Path, base: Base) -> None:
    """Raise `LorauditError` unless the parts of `base`, loaded from `folder`, are sound together.

    A small latent is drawn to the end.
    """
    for part, module in zip(_PARTS, (base.unet, base.vae, base.text_encoder), strict=True):
        bad = next((key for key, value in module.named_parameters() if not value.isfinite().all()), None)
        if bad is not None:
            _refuse(folder, f"{part} holds NaN or infinite values in {clean(bad, 100)}")
    side, scale = base.unet.config.sample_size, base.vae.config.scaling_factor
    if type(side) is not int or side < 1 or not isinstance(scale, float | int) or not scale > 0:
        _refuse(folder, "sample_size and scaling_factor are not a size and a scale")
    words, known = len(base.tokenizer), base.token_table.shape[0]
    if not 0 < words <= known:
        _refuse(folder, f"its tokenizer has {words} words, its text encoder {known}")
    channels = (base.unet.config.in_channels, base.unet.config.out_channels, base.vae.config.latent_channels)
    if len(set(channels)) > 1:
        _refuse(
            folder, f"its networks do not fit together: {channels[0]}, {channels[1]}, {channels[2]} channels"
        )
    with torch.no_grad():
        embedding = base.encode_text(["a"])
        size = 2 ** (len(base.unet.config.block_out_channels) - 1)
        latent = torch.zeros(1, channels[0], size, size, device=base.device, dtype=base.dtype)
        noise = base.epsilon(latent, torch.zeros(1, dtype=torch.long, device=base.device), embedding)
        # The tower in float16 may overflow on a zero latent's picture; its shape alone is asked for.
        picture = base.vae.decode(latent).sample
    if noise.shape != latent.shape or picture.shape[1] != 3 or not noise.isfinite().all():
        _refuse(folder, "its networks do not fit together")


def _check_config(folder: Path, part: str, config: Mapping[str, Any]) -> None:
    for key in config:
        if any(word in key for word in _FORBIDDEN) and config[key] is not None:
            _refuse(folder, f"{part}/config.json sets {clean(key, 60)}, which is not followed")
    for key, number in _numbers(config, "", 0):
        most = _MOST.get(key, _MOST_OTHER)
        if not (math.isfinite(number) and abs(number) <= most):
            _refuse(folder, f"{part}/config.json sets {clean(key, 60)} beyond {most:,}")
    for key in ("block_out_channels", "down_block_types", "up_block_types"):
        blocks = config.get(key, [])
        if not isinstance(blocks, list) or len(blocks) > _MOST_BLOCKS:
            _refuse(folder, f"{part}/config.json does not list {_MOST_BLOCKS} {key} at most")


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


def _check_weights(folder: Path, part: str, name: str) -> None:
    """Raise `LorauditError` unless the weights of `part` are whole safetensors files within its folder."""
    single, index = folder / part / f"{name}{WEIGHTS}", f"{part}/{name}{WEIGHTS}.index.json"
    files = [single] if single.exists() else []
    if (folder / index).exists():
        named = _object(folder, index, _LARGEST_INDEX).get("weight_map")
        if not isinstance(named, dict) or not named:
            _refuse(folder, f"{index} has no weight_map")
        for shard in dict.fromkeys(map(str, named.values())):
            if Path(shard).name != shard or not shard.endswith(WEIGHTS):
                _refuse(folder, f"{index} names {clean(shard, 60)}, which is no safetensors file beside it")
            files.append(folder / part / shard)
    if not files:
        pickles = any(file.suffix in PICKLES for file in (folder / part).iterdir())
        _refuse(
            folder,
            f"{part} holds a pickle, which is not opened, and no {single.name}"
            if pickles
            else f"{part} lacks {single.name}",
        )
    for file in files:
        if not file.is_file():
            _refuse(folder, f"{part}/{clean(file.name, 60)} is missing, or is no file")
        try:
            read_header(file)
        except LorauditError as error:
            _refuse(folder, f"{part}/{clean(file.name, 60)}: {error}")


def _check_tokenizer(folder: Path) -> None:
    """Raise `LorauditError` unless the tokenizer's files are there and can be read."""
    place = folder / "tokenizer"
    if not place.is_dir():
        _refuse(folder, "it lacks the folder tokenizer")
    whole = (place / "tokenizer.json").exists()
    for name in ("vocab.json", "merges.txt"):
        if not whole and not (place / name).exists():
            _refuse(folder, f"tokenizer lacks {name}")
    for file in sorted(place.iterdir()):
        if file.suffix == ".json":
            values = _object(folder, f"tokenizer/{file.name}", _LARGEST_WORDS)
            if any(word in key for key in values for word in _FORBIDDEN) and file.name != "vocab.json":
                _refuse(folder, f"tokenizer/{clean(file.name, 60)} asks for code, which is not followed")
        elif file.name == "merges.txt":
            _text(folder, "tokenizer/merges.txt", _LARGEST_WORDS)


def _object(folder: Path, name: str, most: int) -> dict[str, Any]:
    """Read the file `name` of `folder`, a JSON object. Raises `LorauditError` if it is none."""
    try:
        values = json.loads(_text(folder, name, most))
    except (ValueError, RecursionError):
        _refuse(folder, f"{clean(name)} is not JSON")
    if not isinstance(values, dict):
        _refuse(folder, f"{clean(name)} is not a JSON object")
    return values


def _text(folder: Path, name: str, most: int) -> str:
    try:
        return read_within(folder / name, most).decode()
    except OSError as error:
        _refuse(folder, f"{clean(name)} cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        _refuse(folder, f"{clean(name)} is no text")


def _refuse(folder: Path, why: str) -> NoReturn:
    raise LorauditError(f"cannot load the base '{clean(folder.name)}': {why}", _HINT)

"""Folders that are given as a base: what must be sound before a library opens them.

Anybody may have written the folder. The libraries would build whatever sizes a configuration names, fill what
the weights lack with random numbers, take shards that an index names from pickles, and load an adapter or a
kernel that is named beside the weights.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loraudit.base.config import FORBIDDEN, check_config, kind_by_sizes, read_object, read_text
from loraudit.base.refusal import refuse
from loraudit.errors import LorauditError
from loraudit.lora.file.header import read_header
from loraudit.lora.source.address import PEFT_CONFIG, PICKLES, WEIGHTS
from loraudit.text import clean

__all__ = ["HALF", "PARTS", "Found", "check_configs", "check_folder", "weight_file"]

PARTS: Final[Mapping[str, tuple[str, str]]] = {
    "unet": ("diffusion_pytorch_model", "UNet2DConditionModel"),
    "vae": ("diffusion_pytorch_model", "AutoencoderKL"),
    "text_encoder": ("model", "CLIPTextModel"),
}
"""Folder of a pipeline that holds weights => name of its file of weights, and class."""
HALF: Final = "fp16"
"""Variant of the weights in half precision, as diffusers names its files."""
_LARGEST_INDEX: Final = 10_000_000
_LARGEST_WORDS: Final = 64_000_000
"""Limits in bytes on an index and on a file of the tokenizer; those of SD 1.x have a few MB."""
_SCHEDULER: Final = "scheduler/scheduler_config.json"


@dataclass(frozen=True)
class Found:
    """A pipeline folder that was found sound."""

    variants: Mapping[str, str | None]
    """Part => variant of the weights to load, `fp16` or None."""
    values: int
    """Number of weights in all parts."""


def weight_file(names: Collection[str], part: str, half: bool) -> tuple[str, str | None] | None:
    """Choose the file of weights of `part`, or its index of shards, among `names` in its folder.

    With `half` a variant in half precision is preferred to the whole one, otherwise the whole one. Returns
    the name and the variant, None if there is no such file.
    """
    stem = PARTS[part][0]
    halved = [(name, HALF) for name in (f"{stem}.{HALF}{WEIGHTS}",) if name in names]
    whole = [(name, None) for name in (f"{stem}{WEIGHTS}.index.json", f"{stem}{WEIGHTS}") if name in names]
    return next(iter([*halved, *whole] if half else [*whole, *halved]), None)


def check_folder(shown: str, folder: Path, half: bool = False) -> Found:
    """Raise `LorauditError` unless the pipeline in `folder` can be loaded safely; `shown` is its name.

    Every file is there, is of its kind and names sizes in range. No weights are read beyond their headers.
    `half` prefers weights in half precision.
    """
    for part in PARTS:
        if not (folder / part).is_dir():
            refuse(shown, f"it lacks the folder {part}")
    check_configs(shown, folder)
    found = {part: _check_weights(shown, folder, part, half) for part in PARTS}
    _check_tokenizer(shown, folder)
    variants = {part: variant for part, (variant, _) in found.items()}
    return Found(variants, sum(values for _, values in found.values()))


def check_configs(shown: str, folder: Path) -> None:
    """Raise `LorauditError` unless the configurations in `folder` describe a sound pipeline of SD 1.x."""
    for part, (_, kind) in PARTS.items():
        if (folder / part / PEFT_CONFIG).exists():
            refuse(shown, f"{part} holds an adapter ({PEFT_CONFIG}) beside the model")
        name = f"{part}/config.json"
        config = read_object(shown, folder, name)
        sizes = (config.get(key) for key in ("in_channels", "out_channels", "cross_attention_dim"))
        if part == "unet" and (other := kind_by_sizes(*sizes)):
            refuse(shown, other)
        check_config(shown, name, kind, config)
    if (folder / _SCHEDULER).exists():
        predicts = read_object(shown, folder, _SCHEDULER).get("prediction_type", "epsilon")
        if predicts != "epsilon":
            refuse(shown, f"its network predicts {clean(str(predicts), 40)}, not the noise (epsilon)")


def _check_weights(shown: str, folder: Path, part: str, half: bool) -> tuple[str | None, int]:
    """Raise `LorauditError` unless the weights of `part` are whole safetensors files within its folder.

    Returns their variant and their number.
    """
    place, stem = folder / part, PARTS[part][0]
    chosen = weight_file([file.name for file in place.iterdir()], part, half)
    if chosen is None:
        pickles = any(file.suffix in PICKLES for file in place.iterdir())
        single = f"{stem}{WEIGHTS}"
        refuse(
            shown,
            f"{part} holds a pickle, which is not opened, and no {single}"
            if pickles
            else f"{part} lacks {single}",
        )
    name, variant = chosen
    files = [place / name]
    if name.endswith(".json"):
        index = f"{part}/{name}"
        named = read_object(shown, folder, index, _LARGEST_INDEX).get("weight_map")
        if not isinstance(named, dict) or not named:
            refuse(shown, f"{index} has no weight_map")
        # The libraries prefer a whole file to the shards that an index names.
        whole = place / f"{stem}{WEIGHTS}"
        files = [whole] if whole.exists() else []
        for shard in dict.fromkeys(map(str, named.values())):
            if Path(shard).name != shard or not shard.endswith(WEIGHTS):
                refuse(shown, f"{index} names {clean(shard, 60)}, which is no safetensors file beside it")
            files.append(place / shard)
    values = 0
    for file in files:
        if not file.is_file():
            refuse(shown, f"{part}/{clean(file.name, 60)} is missing, or is no file")
        try:
            values += sum(math.prod(info.shape) for info in read_header(file).tensors.values())
        except LorauditError as error:
            refuse(shown, f"{part}/{clean(file.name, 60)}: {error}")
    return variant, values


def _check_tokenizer(shown: str, folder: Path) -> None:
    """Raise `LorauditError` unless the tokenizer's files are there and can be read."""
    place = folder / "tokenizer"
    if not place.is_dir():
        refuse(shown, "it lacks the folder tokenizer")
    whole = (place / "tokenizer.json").exists()
    for name in ("vocab.json", "merges.txt"):
        if not whole and not (place / name).exists():
            refuse(shown, f"tokenizer lacks {name}")
    for file in sorted(place.iterdir()):
        if file.suffix == ".json":
            values = read_object(shown, folder, f"tokenizer/{file.name}", _LARGEST_WORDS)
            if any(word in key for key in values for word in FORBIDDEN) and file.name != "vocab.json":
                refuse(shown, f"tokenizer/{clean(file.name, 60)} asks for code, which is not followed")
        elif file.name == "merges.txt":
            read_text(shown, folder, "tokenizer/merges.txt", _LARGEST_WORDS)

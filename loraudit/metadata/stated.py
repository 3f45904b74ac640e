"""Words of a LoRA's files on the base that it was made on.

kohya writes the checkpoint's name and two hashes of it (`train_network.py`), peft and diffusers the name or
path in `adapter_config.json`, model cards the name of a repository.
"""

import re
from dataclasses import dataclass
from typing import Final

from loraudit.errors import NotScannable
from loraudit.lora.source.address import PEFT_CONFIG
from loraudit.metadata.beside import README
from loraudit.metadata.exposure import Exposure
from loraudit.metadata.quotes import EMPTY
from loraudit.text import parse_json

__all__ = ["Stated", "stated_base"]

_NAMES: Final = ("ss_sd_model_name", "base_model_name_or_path", "modelspec.base_model", "base_model")
_HASHES: Final = ("ss_new_sd_model_hash", "ss_sd_model_hash")
_HASH: Final = re.compile(r"(?:0x)?([0-9a-f]{8}|[0-9a-f]{10}|[0-9a-f]{64})")
_LONGEST: Final = 300
_MOST: Final = 8


@dataclass(frozen=True)
class Stated:
    """Base that a LoRA's files name; the names are hostile texts."""

    names: tuple[str, ...]
    """Names, paths and repositories, as they stand in the files."""
    hashes: tuple[str, ...]
    """Hashes of a checkpoint in a single file, of 8, 10 or 64 hex digits."""


def stated_base(exposure: Exposure) -> Stated | None:
    """Collect what the texts of a LoRA's files say of its base; None if they say nothing."""
    names: list[str] = []
    hashes: list[str] = []
    for place, key, text in exposure.said:
        if place == PEFT_CONFIG:
            names.append(_in_config(text))
        elif (place, key) == (README, "base_model") or (place == "header" and key in _NAMES):
            names.append(text)
        elif place == "header" and key in _HASHES and (found := _HASH.fullmatch(text.strip().lower())):
            hashes.append(found[1])
    told = dict.fromkeys(name.strip() for name in names if len(name) <= _LONGEST)
    kept = tuple(name for name in told if name not in EMPTY)[:_MOST]
    return Stated(kept, tuple(dict.fromkeys(hashes))) if kept or hashes else None


def _in_config(text: str) -> str:
    """Read the name of the base in peft's configuration; empty if there is none."""
    try:
        table = parse_json(text, PEFT_CONFIG)
    except NotScannable:
        return ""
    name = table.get("base_model_name_or_path") if isinstance(table, dict) else None
    return name if isinstance(name, str) else ""

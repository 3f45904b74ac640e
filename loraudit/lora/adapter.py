"""The scale of a LoRA from its peft configuration: `lora_alpha / r`, or `lora_alpha / sqrt(r)` for rsLoRA.

The configuration is `adapter_config.json` beside peft's weights, or the JSON text that diffusers keeps under
`lora_adapter_metadata` in the header. (peft `tuners/lora/layer.py`, `update_layer`; diffusers
`loaders/lora_base.py`)
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from loraudit.errors import NotScannable
from loraudit.lora.header import clean, parse_json

__all__ = ["DIFFUSERS_KEY", "AdapterConfig"]

DIFFUSERS_KEY: Final = "lora_adapter_metadata"
MAX_CONFIG_BYTES: Final = 1_000_000


@dataclass(frozen=True)
class AdapterConfig:
    """The part of a peft `LoraConfig` that decides the scale."""

    alpha: float
    """`lora_alpha`."""
    rank_stabilised: bool
    """`use_rslora`."""
    alphas: Mapping[str, float]
    """`alpha_pattern`: a module path, or the end of one, to its own alpha."""

    @classmethod
    def from_file(cls, path: Path) -> "AdapterConfig":
        """From `adapter_config.json`. Raises `NotScannable` if it does not describe a plain LoRA."""
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
        if len(data) > MAX_CONFIG_BYTES:
            raise NotScannable(
                f"{clean(path.name)} is larger than {MAX_CONFIG_BYTES} bytes", "save the adapter again"
            )
        return cls._from_json(parse_json(data, clean(path.name)), clean(path.name))

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], component: str) -> "AdapterConfig | None":
        """From a diffusers file's header for `unet` or `text_encoder`; None if it holds nothing about it.

        Raises `NotScannable` if it does not describe a plain LoRA.
        """
        if DIFFUSERS_KEY not in metadata:
            return None
        table = parse_json(metadata[DIFFUSERS_KEY], DIFFUSERS_KEY)
        if not isinstance(table, dict):
            raise _unsound(DIFFUSERS_KEY, "it is not a JSON object")
        prefixed = [key for key in table if key.startswith(("unet.", "text_encoder."))]
        # `save_lora_adapter` of a single model writes no prefix.
        own = {
            key.removeprefix(f"{component}."): table[key]
            for key in prefixed
            if key.startswith(f"{component}.")
        }
        return cls._from_json(own if prefixed else table, DIFFUSERS_KEY) if own or not prefixed else None

    @classmethod
    def _from_json(cls, table: Any, where: str) -> "AdapterConfig":  # noqa: ANN401
        if not isinstance(table, dict):
            raise _unsound(where, "it is not a JSON object")
        kind = table.get("peft_type") or "LORA"
        if kind != "LORA" or table.get("use_dora"):
            name = "DORA" if kind == "LORA" else clean(str(kind), 40)
            raise NotScannable(
                f"{where} describes an adapter of type {name}, not a plain LoRA", "loraudit audits LoRAs"
            )
        patterns = table.get("alpha_pattern") or {}
        if not isinstance(patterns, dict):
            raise _unsound(where, "alpha_pattern is not a JSON object")
        alphas = {_literal(pattern, where): _number(alpha, where) for pattern, alpha in patterns.items()}
        # A LoraConfig without lora_alpha has peft's default, 8.
        return cls(_number(table.get("lora_alpha", 8), where), bool(table.get("use_rslora")), alphas)

    def scale(self, module: str, rank: int) -> float:
        """The factor on `B A` of the module at the dotted path `module`."""
        # The first match wins, as in peft `utils/other.py`, `get_pattern_key`.
        alpha = next(
            (value for pattern, value in self.alphas.items() if _matches(pattern, module)), self.alpha
        )
        return alpha / math.sqrt(rank) if self.rank_stabilised else alpha / rank


def _matches(pattern: str, module: str) -> bool:
    return f".{module}".endswith(f".{pattern}") if not pattern.startswith("^") else module == pattern[1:]


def _literal(pattern: str, where: str) -> str:
    """The module path in `pattern`; peft takes it as a regular expression, a real one is refused here."""
    path = pattern.replace("\\.", ".").removesuffix("$")
    if not re.fullmatch(r"\^?[\w.-]+", path):
        raise NotScannable(
            f"{where} selects modules by the regular expression '{clean(pattern)}'",
            "loraudit runs no expression from a file; save the adapter with plain names in alpha_pattern",
        )
    return path


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _unsound(where, f"'{clean(str(value), 40)}' is no alpha")
    return float(value)


def _unsound(where: str, why: str) -> NotScannable:
    return NotScannable(f"{where} is not sound: {why}", "save the adapter again")

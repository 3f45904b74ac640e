"""Scale of a LoRA from its peft configuration: `lora_alpha / r`, or `lora_alpha / sqrt(r)` for rsLoRA.

The configuration is `adapter_config.json` beside peft's weights, or the JSON text that diffusers keeps under
`lora_adapter_metadata` in the header. (peft `tuners/lora/layer.py`, `update_layer`; diffusers
`loaders/lora_base.py`)
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from loraudit.errors import NotScannable
from loraudit.text import clean, parse_json

__all__ = ["DIFFUSERS_KEY", "AdapterConfig"]

DIFFUSERS_KEY: Final = "lora_adapter_metadata"
MAX_CONFIG_BYTES: Final = 1_000_000
# The types of adapter that are read, and what each calls its alpha.
_ALPHA: Final = {"LORA": "lora_alpha", "LOHA": "alpha", "LOKR": "alpha"}


@dataclass(frozen=True)
class AdapterConfig:
    """Part of a peft `LoraConfig` that decides the update, besides the matrices."""

    alpha: float
    """Field `lora_alpha`."""
    rank_stabilised: bool
    """Field `use_rslora`."""
    alphas: Mapping[str, float]
    """Field `alpha_pattern`: alpha of a module by its path, or by the end of the path."""
    rank: float = 8
    """Field `r`, needed only if the shapes do not tell the rank."""
    ranks: Mapping[str, float] = field(default_factory=dict)
    """Field `rank_pattern`: rank of a module by its path, or by the end of the path."""
    dora: bool = False
    """Field `use_dora`: a module without a magnitude is not complete."""

    @classmethod
    def from_file(cls, path: Path) -> "AdapterConfig":
        """Read `adapter_config.json`. Raises `NotScannable` if that describes no LoRA, LoHa or LoKr."""
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
        if len(data) > MAX_CONFIG_BYTES:
            raise NotScannable(
                f"{clean(path.name)} is larger than {MAX_CONFIG_BYTES} bytes", "save the adapter again"
            )
        return cls._from_json(parse_json(data, clean(path.name)), clean(path.name))

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], component: str) -> "AdapterConfig | None":
        """Read a diffusers file's header for `unet` or `text_encoder`; None if nothing is said about it.

        Raises `NotScannable` if the header describes no LoRA, LoHa or LoKr.
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
        if kind not in _ALPHA:
            raise NotScannable(
                f"{where} describes an adapter of type {clean(str(kind), 40)}",
                "loraudit audits LoRAs, LoHas and LoKrs",
            )
        # A configuration without alpha or rank has peft's defaults, 8.
        return cls(
            _number(table.get(_ALPHA[kind], 8), where),
            bool(table.get("use_rslora")),
            _pattern(table, "alpha_pattern", where),
            _number(table.get("r", 8), where) or 8,
            _pattern(table, "rank_pattern", where),
            bool(table.get("use_dora")),
        )

    def scale(self, module: str, rank: int | None) -> float:
        """Return the factor on the update of the module at the dotted path `module`.

        `rank` is that of the module's matrices; None if their shapes do not tell.
        """
        alpha = _first(self.alphas, module, self.alpha)
        over = rank if rank is not None else _first(self.ranks, module, self.rank)
        return alpha / math.sqrt(over) if self.rank_stabilised else alpha / over


def _pattern(table: Mapping[str, Any], key: str, where: str) -> dict[str, float]:
    patterns = table.get(key) or {}
    if not isinstance(patterns, dict):
        raise _unsound(where, f"{key} is not a JSON object")
    return {_literal(pattern, where): _number(value, where) for pattern, value in patterns.items()}


def _first(patterns: Mapping[str, float], module: str, default: float) -> float:
    # The first match wins, as in peft `utils/other.py`, `get_pattern_key`.
    return next((value for pattern, value in patterns.items() if _matches(pattern, module)), default)


def _matches(pattern: str, module: str) -> bool:
    return f".{module}".endswith(f".{pattern}") if not pattern.startswith("^") else module == pattern[1:]


def _literal(pattern: str, where: str) -> str:
    """Take the module path from `pattern`; a real regular expression, as peft allows, is refused."""
    path = pattern.replace("\\.", ".").removesuffix("$")
    if not re.fullmatch(r"\^?[\w.-]+", path):
        raise NotScannable(
            f"{where} selects modules by the regular expression '{clean(pattern)}'",
            "loraudit runs no expression from a file; save the adapter with plain names in its patterns",
        )
    return path


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _unsound(where, f"'{clean(str(value), 40)}' is no alpha")
    return float(value)


def _unsound(where: str, why: str) -> NotScannable:
    return NotScannable(f"{where} is not sound: {why}", "save the adapter again")

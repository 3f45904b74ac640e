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
from loraudit.hiding import named
from loraudit.text import clean, parse_json

__all__ = ["DIFFUSERS_KEY", "AdapterConfig"]

DIFFUSERS_KEY: Final = "lora_adapter_metadata"
MAX_CONFIG_BYTES: Final = 1_000_000
MAX_PATTERNS: Final = 10_000
MAX_ALPHA: Final = 1e6
"""Largest magnitude of an alpha; people set 1 to a few hundred."""
MAX_RANK: Final = 65_536
"""Largest rank; the widest module of SD 1.x has 11,520 inputs, a kernel counted."""
# The types of adapter that are read, and what each calls its alpha.
_ALPHA: Final = {"LORA": "lora_alpha", "LOHA": "alpha", "LOKR": "alpha"}
_PLAIN_STARTS: Final = frozenset({"gaussian", "eva", "orthogonal", "mica"})
"""Ways to start the matrices, besides true and false, that leave the base's weights as they are."""
_MOVING_STARTS: Final = (
    ("pissa", "PiSSA"),
    ("olora", "OLoRA"),
    ("corda", "CorDA"),
    ("loftq", "LoftQ"),
    ("lora_ga", "LoRA-GA"),
)
"""Starts that take the matrices out of the base's weights, by the beginning of `init_lora_weights`."""


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
    saved: tuple[str, ...] = ()
    """Field `modules_to_save`: ends of the paths of modules that were trained as a whole."""
    biases: bool = False
    """Field `bias`: biases were trained too."""

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
        text = metadata[DIFFUSERS_KEY]
        if len(text) > MAX_CONFIG_BYTES:
            raise _unsound(DIFFUSERS_KEY, f"it is longer than {MAX_CONFIG_BYTES} characters")
        table = parse_json(text, DIFFUSERS_KEY)
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
        if not isinstance(kind, str):
            raise _unsound(where, "peft_type is not a text")
        if kind not in _ALPHA:
            raise NotScannable(
                f"{where} describes an adapter of type {named(kind[:40])}",
                "loraudit audits LoRAs, LoHas and LoKrs",
            )
        _require_update(table.get("init_lora_weights"), where)
        # A configuration without alpha or rank has peft's defaults, 8.
        return cls(
            _alpha(table.get(_ALPHA[kind], 8), _ALPHA[kind], where),
            _flag(table, "use_rslora", where),
            {name: _alpha(value, "alpha_pattern", where) for name, value in _pattern(table, "alpha", where)},
            _rank(table.get("r", 8), "r", where),
            {name: _rank(value, "rank_pattern", where) for name, value in _pattern(table, "rank", where)},
            _flag(table, "use_dora", where),
            _names(table, "modules_to_save", where),
            table.get("bias") in ("all", "lora_only"),
        )

    def scale(self, module: str, rank: int | None) -> float:
        """Return the factor on the update of the module at the dotted path `module`.

        `rank` is that of the module's matrices; None if their shapes do not tell.
        """
        alpha = _first(self.alphas, module, self.alpha)
        over = rank if rank is not None else _first(self.ranks, module, self.rank)
        return alpha / math.sqrt(over) if self.rank_stabilised else alpha / over


def _require_update(start: object, where: str) -> None:
    """Refuse matrices that are no update: `start` says that they began as a part of the base's weights.

    peft takes that part out of the base before it trains, so that only the difference to it is the update.
    """
    if (
        start is None
        or isinstance(start, bool)
        or (isinstance(start, str) and start.lower() in _PLAIN_STARTS)
    ):
        return
    if not isinstance(start, str):
        raise _unsound(where, "init_lora_weights is neither a text nor true or false")
    for beginning, name in _MOVING_STARTS:
        if start.lower().startswith(beginning):
            raise NotScannable(
                f"{where} describes a LoRA that {name} started from the base's own weights",
                "its matrices alone are not its update; convert it to a plain LoRA with peft "
                "(save_pretrained, path_initial_model_for_weight_conversion)",
            )
    raise NotScannable(
        f"{where} names a start of the matrices (init_lora_weights) that loraudit does not know",
        "convert it to a plain LoRA with peft",
    )


def _pattern(table: Mapping[str, Any], of: str, where: str) -> list[tuple[str, Any]]:
    patterns = table.get(f"{of}_pattern") or {}
    if not isinstance(patterns, dict):
        raise _unsound(where, f"{of}_pattern is not a JSON object")
    if len(patterns) > MAX_PATTERNS:
        raise _unsound(where, f"{of}_pattern has more than {MAX_PATTERNS} members")
    return [(_literal(pattern, where), value) for pattern, value in patterns.items()]


def _names(table: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    names = table.get(key) or []
    if not isinstance(names, list) or len(names) > MAX_PATTERNS or not all(type(one) is str for one in names):
        raise _unsound(where, f"{key} is no list of names")
    return tuple(names)


def _first(patterns: Mapping[str, float], module: str, default: float) -> float:
    # The first match wins, as in peft `utils/other.py`, `get_pattern_key`. A file may hold thousands of
    # patterns and of modules, so the few patterns that can match are looked up.
    parts = module.split(".")
    able = {f"^{module}", *(".".join(parts[at:]) for at in range(len(parts)))} & patterns.keys()
    if len(able) > 1:
        return next(value for pattern, value in patterns.items() if pattern in able)
    return patterns[able.pop()] if able else default


def _literal(pattern: str, where: str) -> str:
    """Take the module path from `pattern`; a real regular expression, as peft allows, is refused."""
    path = pattern.replace("\\.", ".").removesuffix("$")
    if not re.fullmatch(r"\^?[\w.-]+", path):
        raise NotScannable(
            f"{where} selects modules by the regular expression '{named(pattern)}'",
            "loraudit runs no expression from a file; save the adapter with plain names in its patterns",
        )
    return path


def _alpha(value: object, key: str, where: str) -> float:
    # A number is compared before it is made a float: JSON's integers have no limit.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MAX_ALPHA:
        raise _unsound(where, f"{key} holds what is no alpha, a number up to {MAX_ALPHA:,.0f}")
    return float(value)


def _rank(value: object, key: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= MAX_RANK:
        raise _unsound(where, f"{key} holds what is no rank, a number from 1 to {MAX_RANK:,}")
    return float(value)


def _flag(table: Mapping[str, Any], key: str, where: str) -> bool:
    value = table.get(key)
    if value is not None and not isinstance(value, bool):
        raise _unsound(where, f"{key} is neither true nor false")
    return bool(value)


def _unsound(where: str, why: str) -> NotScannable:
    return NotScannable(f"{where} is not sound: {why}", "save the adapter again")

"""Names that people gave their adapters, which peft writes into the name of every tensor.

peft's `get_peft_model_state_dict` leaves the name out; a state dict that was saved without has it, as in
`x.lora_A.jane.weight`. The reader, the audit of words and `scrub` all know such a name by `adapter_in`. (peft
`utils/save_and_load.py`, `tuners/*/layer.py`)
"""

import re
from collections.abc import Iterable, Mapping
from itertools import count
from typing import Final

from loraudit.hiding import is_public

__all__ = ["DEFAULT", "adapter_in", "adapter_names", "with_adapter", "without_adapter_names"]

DEFAULT: Final = "default"
"""Name that peft gives an adapter itself."""
_NAMED_PARAMETERS: Final = {
    "adamss": "A B", "beft": "bias", "boft": "R s", "bone": "block", "c3a": "kernel", "deft": "P R",
    "delora": "A B lambda w_norm", "fourierft": "spectrum", "frod": "lambda_l lambda_s_values",
    "gralora": "A A_general B B_general", "hada": "t1 t2 w1_a w1_b w2_a w2_b", "hra": "u", "ia3": "l",
    "hira": "A B embedding_A embedding_B", "lily": "A B", "lokr": "t2 w1 w1_a w1_b w2 w2_a w2_b",
    "lora": "A B E diag down embedding_A embedding_B magnitude_vector mid up", "miss": "block",
    "oft": "R embedding_R r", "peanut": "A B", "poly": "lora_A lora_B", "psoft": "R alpha",
    "pvera": "A B lambda_b lambda_d", "randlora": "A B gamma lambda", "road": "alpha theta",
    "shira": "weight", "supertuning": "lora_A lora_B rank values", "tinylora": "A B P",
    "trainable": "tokens_delta tokens_original", "vblora": "logits_A logits_B vector_bank",
    "unilora": "indices_A indices_B scales_A scales_B theta_d", "vera": "A B lambda_b lambda_d",
    "waveft": "spectrum",
}  # fmt: skip
"""Parameters of peft's tuners, each behind the name of its tuner, and of loaders that know adapters by name.

The adapter's name comes last."""
_NAMED_MODULES: Final = {
    "glora": "A B C D E", "lily": "router", "ln": "tuning_layers", "lora": "monteclora_sampler",
    "modules": "to_save", "osf": "svd_params", "peanut": "decoders encoders", "poly": "router",
    "shadow": "down up update_gate update_transform", "tinylora": "v",
}  # fmt: skip
"""Modules of which every adapter has its own; names of tensors in the module follow the adapter's name."""
_SHARED: Final = {"frod": "U V s_indices s_size"}
"""Tables that layers share; the name of the kind of layer comes before the adapter's name."""


def _any(table: Mapping[str, str]) -> str:
    return "|".join(f"{start}_(?:{'|'.join(ends.split())})" for start, ends in table.items())


_END: Final = r"(?:weight|bias)"
_ADAPTER: Final = re.compile(
    rf"[.\n](?:(?:{_any(_NAMED_PARAMETERS)})\.(?!{_END}[.\n])(?P<last>[^\n]+?)(?=(?:\.{_END})?\n)"
    rf"|(?:{_any(_NAMED_MODULES)})\.(?P<next>[^.\n]+)"
    rf"|(?:{_any(_SHARED)})\.(?:[^\n]*\.)?(?P<end>[^.\n]+)(?=\n))"
)
"""Adapter in a line of a text that begins and ends with a line's end."""
_NAMELESS: Final = (
    ".lora_A.weight", ".lora_B.weight", ".lora_down.weight", ".lora_up.weight", ".lora.down.weight",
    ".lora.up.weight", ".alpha",
)  # fmt: skip
"""Ends of nearly all tensor names; a file holds thousands, and none of these is looked through."""
_LONGEST: Final = 1_000
"""Limit in characters on the end of a name that is looked through; no module's path is as long."""
_INDEX: Final = re.compile(r"[0-9]{1,3}")
"""Place of a matrix among several, which is no name."""


def adapter_in(key: str) -> str:
    """Return the name of the adapter in the tensor name `key`; empty if there is none."""
    found = _search(key)
    return "" if found is None else _name(found)


def with_adapter(key: str, name: str) -> str:
    """Return the tensor name `key` with the adapter called `name`; a key without an adapter stays."""
    found = _search(key)
    if found is None or not _name(found):
        return key
    start, end = (at - 1 + max(0, len(key) - _LONGEST) for at in found.span(str(found.lastgroup)))
    return f"{key[:start]}{name}{key[end:]}"


def adapter_names(keys: Iterable[str]) -> list[str]:
    """List the names of adapters in the tensor names `keys`, sorted; peft's own `default` is left out."""
    text = "\n".join(["", *(key[-_LONGEST:] for key in keys if not key.endswith(_NAMELESS)), ""])
    return sorted({_name(found) for found in _ADAPTER.finditer(text)} - {"", DEFAULT})


def without_adapter_names(keys: Iterable[str]) -> dict[str, str]:
    """Give each of `keys` the name that it has if adapters are called `default`, or numbered if several are.

    No two keys get the same name.
    """
    found = {key: adapter_in(key) for key in keys}
    names = sorted(set(found.values()) - {"", DEFAULT})
    if len(names) == 1 and DEFAULT not in found.values():
        new = {names[0]: DEFAULT}
    else:
        taken = {segment for key in found for segment in key.split(".")}
        free = (word for word in (f"adapter_{number}" for number in count(1)) if word not in taken)
        new = dict(zip(names, free, strict=False))
    return {key: with_adapter(key, new[name]) if name in new else key for key, name in found.items()}


def _search(key: str) -> re.Match[str] | None:
    return None if key.endswith(_NAMELESS) else _ADAPTER.search(f"\n{key[-_LONGEST:]}\n")


def _name(found: re.Match[str]) -> str:
    """Take the adapter's name; what belongs to a network, or is the place of a matrix, is none."""
    name = found[str(found.lastgroup)]
    if found["next"] and is_public(name) and name != DEFAULT:
        return ""
    return "" if _INDEX.fullmatch(name) else name

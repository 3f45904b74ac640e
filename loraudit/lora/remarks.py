"""Remark on a LoRA whose updates no training can have left so: zero, constant, or too small for a model."""

from collections import Counter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loraudit.lora.matrices import Factors, LoRA

__all__ = ["remark"]

_TINY: Final = float(np.finfo(np.float32).tiny)
"""Smallest number that float32 holds in full precision; below it numbers are denormal, or zero to a GPU."""
_WORDS: Final = {
    "zero": "zero, so that the LoRA changes nothing",
    "denormal": "so small (denormal) that the LoRA changes nothing",
    "constant": "the same number everywhere, which no training leaves",
}


def remark(lora: LoRA) -> str | None:
    """Say what all updates of `lora` are if none can hold anything that was trained; otherwise None."""
    found = Counter(_kind(factors) for factors in lora.factors.values())
    if not found or found["trained"] or lora.dora:
        return None
    (first, count), *rest = found.most_common()
    if not rest:
        return f"every update is {_WORDS[first]}"
    more = ", ".join(f"{number} {kind}" for kind, number in rest)
    return f"no update can have been trained: {count} {first}, {more}"


def _kind(factors: Factors) -> str:
    up, down = _largest(factors.up), _largest(factors.down)
    if not up or not down:
        return "zero"
    if up * down * factors.rank < _TINY:
        return "denormal"
    return "constant" if _is_constant(factors.up) and _is_constant(factors.down) else "trained"


def _largest(values: NDArray[np.float32]) -> float:
    return max(float(values.max()), -float(values.min()))


def _is_constant(values: NDArray[np.float32]) -> bool:
    return bool(values.max() == values.min())

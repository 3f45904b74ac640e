"""Matrices of a LoRA and the values that describe a LoRA file.

A LoRA adds `s B A` to a frozen weight `[out, in]`. `B` (up) is `[out, r]`, `A` (down) is `[r, in]`, and the
scale is `s = alpha / r`. Here `s` is folded into `up`, so that `up @ down` is the effective update whatever
layout the file had. A convolution kernel `[out, in, k, k]` is adapted by `A [r, in, k, k]` and `B [out, r, 1,
1]`. The kernel's axes `in`, `k`, `k` are flattened into one. (LoRA: Hu et al. 2021, https://arxiv.org/abs/2106.09685,
section 4.1)
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from loraudit.errors import NotScannable
from loraudit.hiding import named
from loraudit.lora.file.header import TensorInfo
from loraudit.lora.forms import Role, factor
from loraudit.text import clean

__all__ = [
    "DTYPES",
    "DoRA",
    "Factors",
    "LoRA",
    "LoRAFile",
    "Site",
    "Unread",
    "fold",
    "is_too_large",
    "read_tensor",
]

Site: TypeAlias = str
"""Site: `unet.` or `text_encoder.` and the dotted diffusers path; the text tower without `text_model.`."""

DTYPES: Final[Mapping[str, Any]] = {
    "BOOL": np.bool_, "U8": np.uint8, "I8": np.int8, "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4",
    "U64": "<u8", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
    "BF16": ml_dtypes.bfloat16, "F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2,
}  # fmt: skip
"""Type of the values, for each dtype that is read."""
LARGEST: Final = 1e12
"""Limit on the entries of factors and of their product. Half precision ends at 65,504; the square of a sum of
a million entries of this size still fits float32."""


@dataclass(frozen=True, eq=False)
class Factors:
    """Low-rank update of one module: `up @ down` is added to its weight."""

    up: NDArray[np.float32]
    """Left factor `[out, r]`, the scale folded in."""
    down: NDArray[np.float32]
    """Right factor `[r, in]`; `in` is `in * k * k` for a convolution."""
    scale: float
    """Scale that was folded into `up`, for display only."""

    @property
    def rank(self) -> int:
        """Inner dimension `r`, whatever the numerical rank."""
        return int(self.down.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """Shape `(out, in)` of the update."""
        return int(self.up.shape[0]), int(self.down.shape[1])

    def delta(self) -> NDArray[np.float32]:
        """Compute the update `up @ down`, `[out, in]`."""
        product: NDArray[np.float32] = self.up @ self.down
        return product

    def frobenius(self) -> float:
        """Compute the update's Frobenius norm from the Gram matrices `[r, r]`: `|BA|^2 = sum(B'B * AA')`."""
        up, down = self.up.astype(np.float64), self.down.astype(np.float64)
        # Rounding can leave a tiny negative sum where the product vanishes.
        return math.sqrt(max(0.0, float(np.sum((up.T @ up) * (down @ down.T)))))


@dataclass(frozen=True, eq=False)
class DoRA:
    """DoRA module as a file holds it; with the base's weight, `dora.resolve` makes factors of it."""

    factors: Factors
    """Update of the direction: `up @ down` is added to the weight before its norms are set."""
    magnitude: NDArray[np.float32]
    """Norms, one for each channel of `axis`."""
    axis: int
    """Axis of the weight `[out, in, ...]`: 0 if every output channel has its norm, 1 if every input has."""


@dataclass(frozen=True)
class Unread:
    """Tensor that was not taken into the audit."""

    key: str
    """Name in the file, escaped: private, so that `shown` stands for it in messages."""
    why: str

    @property
    def shown(self) -> str:
        """Name without any word that is not of networks and layouts."""
        return named(self.key)


@dataclass(frozen=True)
class LoRAFile:
    """File or folder that a LoRA came from."""

    name: str
    """Last part of the path, escaped for display."""
    path: Path
    sha256: str
    """SHA-256 of the weights in hex; of two weight files together, in the order text_encoder, unet."""
    size_bytes: int
    """Size of the weights."""
    metadata: Mapping[str, str]
    """Text of the header as it stands in the file: `clean` it before display."""
    origin: str | None = None
    """Address `hf://namespace/name@commit/path`, escaped for display; None for a local file."""
    triggers: tuple[str, ...] = ()
    """Words that call the subject up, from the model card and the names of bundled embeddings."""
    secrets: tuple[str, ...] = ()
    """Secrets in and beside the file, which no report may quote."""


@dataclass(frozen=True)
class LoRA:
    """LoRA in canonical form."""

    file: LoRAFile
    family: str
    """Base model family in words: `SD 1.x` or `tiny`."""
    base: str | None
    """Base that the names and widths fit (`tiny`, `sd15`), or None if more than one fits."""
    dialect: str
    """Layout of the file: the name of one of `dialects.DIALECTS`, or `cloneofsimo`."""
    factors: Mapping[Site, Factors]
    """Factors by site, sorted; empty only if every module is in `dora`."""
    unread: tuple[Unread, ...]
    """Unread tensors, sorted by key; those of `dora` are among them."""
    dora: Mapping[Site, DoRA] = field(default_factory=dict)
    """Modules that are read once the base's weights are at hand, by site, sorted."""

    @property
    def rank(self) -> tuple[int, int]:
        """Smallest and largest rank."""
        directions = [module.factors for module in self.dora.values()]
        ranks = [factors.rank for factors in (*self.factors.values(), *directions)]
        return min(ranks), max(ranks)


def read_tensor(path: Path, key: str, info: TensorInfo) -> NDArray[np.float32]:
    """Read the tensor `key` of the file at `path` as float32, in its own shape.

    Raises `NotScannable` if a value is not finite (or overflows float32) or the file has shrunk since `info`
    was read.
    """
    with path.open("rb") as file:
        file.seek(info.offset)
        data = file.read(info.size)
    if len(data) != info.size:
        raise NotScannable(
            f"{clean(path.name)} is truncated in tensor '{named(key)}'", "download or export it again"
        )
    with np.errstate(over="ignore"):
        values = np.frombuffer(data, dtype=DTYPES[info.dtype]).astype(np.float32).reshape(info.shape)
    _require_finite(values, key, path.name)
    return values


def fold(
    values: Mapping[Role, NDArray[np.float32]], scale: float, name: str, keys: Mapping[Role, str]
) -> Factors:
    """Factor the tensors `values` of one module and fold `scale` into `up`.

    The shapes must have passed `forms.measure`. The file's `name` and the tensors' `keys` are for errors.
    Raises `NotScannable` if the factors or their product are too large for any model.
    """
    up, down = factor(values)
    with np.errstate(over="ignore"):
        up = (up.astype(np.float64) * scale).astype(np.float32)
    key = next(iter(keys.values()))
    for matrix in (up, down):
        _require_finite(matrix, key, name)
    if is_too_large(up, down):
        raise NotScannable(
            f"the update of tensor '{clean(key)}' in {clean(name)} is too large: its matrices, or their "
            f"product, pass {LARGEST:g}",
            "the training diverged or the file is broken; no model can use it",
        )
    return Factors(up, down, scale)


def is_too_large(up: NDArray[np.float32], down: NDArray[np.float32]) -> bool:
    """Tell whether a factor, or an entry of `up @ down`, can be larger than `LARGEST`."""
    left, right = (max(float(values.max()), -float(values.min())) for values in (up, down))
    return not max(left, right, left * right * len(down)) <= LARGEST


def _require_finite(values: NDArray[np.float32], key: str, name: str) -> None:
    if not np.isfinite(values).all():
        raise NotScannable(
            f"tensor '{named(key)}' in {clean(name)} holds NaN or infinite values",
            "the training diverged or the file is broken; no model can use it",
        )

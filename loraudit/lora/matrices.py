"""The matrices of a LoRA and the values that describe a LoRA file.

A LoRA adds `s B A` to a frozen weight `[out, in]`: `B` (up) is `[out, r]`, `A` (down) is `[r, in]`, and the
scale is `s = alpha / r`. Here `s` is folded into `up`, so that `up @ down` is the effective update whatever
layout the file had. A convolution kernel `[out, in, k, k]` is adapted by `A [r, in, k, k]` and `B [out, r, 1,
1]`; its `in`, `k`, `k` axes are flattened into one. (LoRA: Hu et al. 2021, https://arxiv.org/abs/2106.09685,
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
from loraudit.lora.file.header import TensorInfo
from loraudit.lora.forms import Role, factor
from loraudit.text import clean

__all__ = ["DoRA", "Factors", "LoRA", "LoRAFile", "Site", "Unread", "fold", "read_tensor"]

Site: TypeAlias = str
"""`unet.` or `text_encoder.` and the dotted diffusers path; the text tower without `text_model.`."""

_DTYPES: Final[Mapping[str, Any]] = {
    "BOOL": np.bool_, "U8": np.uint8, "I8": np.int8, "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4",
    "U64": "<u8", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
    "BF16": ml_dtypes.bfloat16, "F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Factors:
    """The low-rank update of one module: `up @ down` is what is added to its weight."""

    up: NDArray[np.float32]
    """`[out, r]`, the scale folded in."""
    down: NDArray[np.float32]
    """`[r, in]`; `in` is `in * k * k` for a convolution."""
    scale: float
    """The scale that was folded into `up`, for display only."""

    @property
    def rank(self) -> int:
        """The inner dimension `r`, whatever the numerical rank."""
        return int(self.down.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """`(out, in)` of the update."""
        return int(self.up.shape[0]), int(self.down.shape[1])

    def delta(self) -> NDArray[np.float32]:
        """The update `up @ down`, `[out, in]`."""
        product: NDArray[np.float32] = self.up @ self.down
        return product

    def frobenius(self) -> float:
        """Frobenius norm of the update, from the Gram matrices `[r, r]`: `|BA|^2 = sum(B'B * AA')`."""
        up, down = self.up.astype(np.float64), self.down.astype(np.float64)
        # Rounding can leave a tiny negative sum where the product vanishes.
        return math.sqrt(max(0.0, float(np.sum((up.T @ up) * (down @ down.T)))))


@dataclass(frozen=True, eq=False)
class DoRA:
    """What a file holds of a module that is DoRA; with the base, `dora.resolve` makes factors of it."""

    factors: Factors
    """Of the direction: `up @ down` is added to the weight before its norms are set."""
    magnitude: NDArray[np.float32]
    """The norms, one for each channel of `axis`."""
    axis: int
    """Of the weight `[out, in, ...]`: 0 where every output channel has its norm, 1 where every input has."""


@dataclass(frozen=True)
class Unread:
    """A tensor that was not taken into the audit."""

    key: str
    """As the file spells it, made harmless for display."""
    why: str


@dataclass(frozen=True)
class LoRAFile:
    """The file or folder that a LoRA came from."""

    name: str
    """The last part of the path, made harmless for display."""
    path: Path
    sha256: str
    """Of the weights; of a folder with two weight files, of their bytes in the order text_encoder, unet."""
    size_bytes: int
    """Of the weights."""
    metadata: Mapping[str, str]
    """The header's own text, as it stands in the file: `clean` it before display."""
    origin: str | None = None
    """`hf://namespace/name@commit/path` of a file on the Hub, harmless for display; None of a local one."""
    triggers: tuple[str, ...] = ()
    """Words that call the subject up, as the model card and the names of bundled embeddings have them."""


@dataclass(frozen=True)
class LoRA:
    """A LoRA in canonical form."""

    file: LoRAFile
    family: str
    """The base model family in words: `SD 1.x` or `tiny`."""
    base: str | None
    """The base that the names and widths fit (`tiny`, `sd14`), or None where more than one fits."""
    dialect: str
    """The layout of the file: the name of one of `dialects.DIALECTS`, or `cloneofsimo`."""
    factors: Mapping[Site, Factors]
    """Sorted by site; empty only if every module is in `dora`."""
    unread: tuple[Unread, ...]
    """Sorted by key; the tensors of `dora` are among them."""
    dora: Mapping[Site, DoRA] = field(default_factory=dict)
    """The modules that are not read before the base's weights are at hand; sorted by site."""

    @property
    def rank(self) -> tuple[int, int]:
        """The smallest and the largest rank."""
        directions = [module.factors for module in self.dora.values()]
        ranks = [factors.rank for factors in (*self.factors.values(), *directions)]
        return min(ranks), max(ranks)


def read_tensor(path: Path, key: str, info: TensorInfo) -> NDArray[np.float32]:
    """The tensor `key` of the file at `path` as float32, in its own shape.

    Raises `NotScannable` if a value is not finite (or overflows float32) or the file has shrunk since `info`
    was read.
    """
    with path.open("rb") as file:
        file.seek(info.offset)
        data = file.read(info.size)
    if len(data) != info.size:
        raise NotScannable(
            f"{clean(path.name)} is truncated in tensor '{clean(key)}'", "download or export it again"
        )
    with np.errstate(over="ignore"):
        values = np.frombuffer(data, dtype=_DTYPES[info.dtype]).astype(np.float32).reshape(info.shape)
    _require_finite(values, key, path)
    return values


def fold(path: Path, keys: Mapping[Role, str], tensors: Mapping[str, TensorInfo], scale: float) -> Factors:
    """Read the tensors `keys` of one module from the file at `path`, factor them and fold `scale` into `up`.

    Their shapes must have passed `forms.measure`. Raises `NotScannable` as `read_tensor` does, and if the
    factors overflow float32.
    """
    up, down = factor({role: read_tensor(path, key, tensors[key]) for role, key in keys.items()})
    with np.errstate(over="ignore"):
        up = (up.astype(np.float64) * scale).astype(np.float32)
    for values in (up, down):
        _require_finite(values, next(iter(keys.values())), path)
    return Factors(up, down, scale)


def _require_finite(values: NDArray[np.float32], key: str, path: Path) -> None:
    if not np.isfinite(values).all():
        raise NotScannable(
            f"tensor '{clean(key)}' in {clean(path.name)} holds NaN or infinite values",
            "the training diverged or the file is broken; no model can use it",
        )

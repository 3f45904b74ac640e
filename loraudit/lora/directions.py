"""In how many directions a LoRA changes modules: few if fine-tuned once, many if it is several merged.

The singular values `s_1 >= s_2 >= ...` of an update say how its size is spread. Their participation ratio,

    (sum s_i^2)^2 / sum s_i^4,

is `k` for `k` directions of one size and 1 for a single one. (Recanatesi and others, "A scale-dependent
measure of system dimensionality", https://doi.org/10.1016/j.patter.2022.100555, of eigenvalues.) Fine-tuning
on one subject fills few of the directions that its rank allows. The sum of several LoRAs fills those of each,
and keeps them when it is re-factorised, or cut to a smaller rank as merging tools do, as long as that rank
holds them.

How many are usual depends on the module: every step of a fine-tuning asks for the same words, so that the
keys of cross-attention change in one or two; a feed-forward layer sees all of the picture. So each kind of
module is told by itself, with its rank.
"""

from collections.abc import Mapping
from statistics import median
from typing import Final

import numpy as np

from loraudit.lora.canonical import triangle
from loraudit.lora.matrices import Factors, LoRA, Site

__all__ = ["directions"]

_SMALLEST: Final = 1e-3
"""Singular values below this share of the largest are rounding, and no rank: half precision has 5e-4."""


def directions(lora: LoRA) -> Mapping[str, tuple[float, float]]:
    """Of each kind of UNet module, `attn2.to_k` for one, the medians of rank and of participation ratio.

    Both are at least 1 and, functions of `B A` alone, the same for any factors of it. Updates of zero are
    left out.
    """
    kinds: dict[str, list[tuple[int, float]]] = {}
    for site, factors in lora.factors.items():
        if site.startswith("unet.") and (found := _participation(factors)) is not None:
            kinds.setdefault(_kind(site), []).append(found)
    return {
        kind: (median(rank for rank, _ in found), median(ratio for _, ratio in found))
        for kind, found in sorted(kinds.items())
    }


def _kind(site: Site) -> str:
    """The last two names of its path: what the module is, not where."""
    return ".".join([name for name in site.split(".") if not name.isdigit()][-2:])


def _participation(factors: Factors) -> tuple[int, float] | None:
    """Rank and ratio of one update; None if it is zero."""
    left, right = (triangle(side.astype(np.float64)) for side in (factors.up, factors.down.T))
    values = np.linalg.svd(left @ right.T, compute_uv=False)
    # Relative to the largest, so that no square overflows or vanishes.
    if not values[0]:
        return None
    shares = values / values[0]
    energy = shares**2
    return int((shares >= _SMALLEST).sum()), float(energy.sum() ** 2 / (energy**2).sum())

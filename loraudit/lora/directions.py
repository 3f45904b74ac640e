"""Directions in which a LoRA changes modules: few if it was fine-tuned once, many if it is several merged.

The singular values `s_1 >= s_2 >= ...` of an update say how its size is spread. Their participation ratio,

    (sum s_i^2)^2 / sum s_i^4,

is `k` for `k` directions of one size and 1 for a single one. (Recanatesi and others, "A scale-dependent
measure of system dimensionality", https://doi.org/10.1016/j.patter.2022.100555, of eigenvalues.) Fine-tuning
on one subject fills few of the directions that its rank allows. The sum of several LoRAs fills those of each.
A merging tool may factorise the sum again and cut its rank: the directions stay as long as that rank holds
them.

The usual number depends on the module. Every fine-tuning step has the same prompt, so that the keys of
cross-attention change in one or two directions. A feed-forward layer sees all of the picture. Each kind of
module is therefore measured by itself, with its rank.
"""

from collections.abc import Mapping
from statistics import median
from typing import Final

import numpy as np

from loraudit.lora.canonical import triangle
from loraudit.lora.matrices import Factors, LoRA, Site

__all__ = ["directions"]

_SMALLEST: Final = 1e-3
"""Share of the largest singular value below which others are rounding, not rank; half precision has 5e-4."""


def directions(lora: LoRA) -> Mapping[str, tuple[float, float]]:
    """Measure each kind of UNet module, such as `attn2.to_k`: the medians of rank and of participation ratio.

    Both numbers are at least 1, and the same for any factors of `B A`. Updates of zero are left out.
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
    """Take the last two names of a module's path, which say what the module is, not where."""
    return ".".join([name for name in site.split(".") if not name.isdigit()][-2:])


def _participation(factors: Factors) -> tuple[int, float] | None:
    """Compute rank and participation ratio of one update; None if the update is zero."""
    left, right = (triangle(side.astype(np.float64)) for side in (factors.up, factors.down.T))
    values = np.linalg.svd(left @ right.T, compute_uv=False)
    # Relative to the largest, so that no square overflows or vanishes.
    if not values[0]:
        return None
    shares = values / values[0]
    energy = shares**2
    return int((shares >= _SMALLEST).sum()), float(energy.sum() ** 2 / (energy**2).sum())

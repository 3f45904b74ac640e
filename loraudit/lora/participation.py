"""In how many directions a LoRA changes a module: few if fine-tuned once, many if it is several merged.

The singular values `s_1 >= s_2 >= ...` of an update say how its size is spread. Their participation ratio,

    (sum s_i^2)^2 / sum s_i^4,

is `k` for `k` directions of one size and 1 for a single one. (Recanatesi and others, "A scale-dependent
measure of system dimensionality", https://doi.org/10.1016/j.patter.2022.100555, of eigenvalues.) Fine-tuning
on one subject fills few of the directions that its rank allows. The sum of several LoRAs fills those of each,
and keeps them when it is re-factorised, or cut to a smaller rank as merging tools do, as long as that rank
holds them.
"""

from statistics import median

import numpy as np

from loraudit.lora.canonical import triangle
from loraudit.lora.matrices import Factors, LoRA

__all__ = ["directions"]


def directions(lora: LoRA) -> float | None:
    """The median of the participation ratios of its updates of the UNet, at least 1; None if it has none."""
    found = [
        ratio
        for site, factors in lora.factors.items()
        if site.startswith("unet.") and (ratio := _participation(factors)) is not None
    ]
    return median(found) if found else None


def _participation(factors: Factors) -> float | None:
    """Of one update; None if it is zero."""
    left, right = (triangle(side.astype(np.float64)) for side in (factors.up, factors.down.T))
    values = np.linalg.svd(left @ right.T, compute_uv=False)
    # Relative to the largest, so that no square overflows or vanishes.
    if not values[0]:
        return None
    energy = (values / values[0]) ** 2
    return float(energy.sum() ** 2 / (energy**2).sum())

r"""DoRA: the update of a weight-decomposed LoRA, once the base's weight is at hand.

DoRA takes a weight `W` apart into norms and directions. The update `s B A` is added to `W`, then the norm of
every channel is set to the learned magnitude `m`,

    W' = m (W + s B A) / |W + s B A|,

so that its update `W' - W = (c - 1) W + c s B A`, with `c = m / |W + s B A|`, depends on `W` and has no low
rank. The norm is taken over all of a channel's weights, a kernel's too. In the paper and in peft the channels
are the outputs; LyCORIS until December 2024 and OneTrainer by default take the inputs.

(Liu et al. 2024, https://arxiv.org/abs/2402.09353, equation 5; peft `tuners/lora/dora.py`, LyCORIS
`functional/general.py`, OneTrainer `modules/module/LoRAModule.py`)
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from loraudit.errors import NotScannable
from loraudit.lora.forms import factor
from loraudit.lora.matrices import DoRA, Factors, LoRA, Site, is_too_large

__all__ = ["NEEDS_BASE", "resolve"]

NEEDS_BASE: Final = "DoRA needs the base's weights"
"""Reason that the tensors of a DoRA module are unread until `resolve`."""


def resolve(lora: LoRA, weights: Mapping[Site, NDArray[np.floating[Any]]]) -> LoRA:
    """Read every DoRA module of `lora`, exactly: the rank of each becomes the smaller side of its matrix.

    `weights` holds at least the base's weights of these modules, `[out, in]` or `[out, in, k, k]`. Raises
    `NotScannable` if a weight is missing or of another size.
    """
    read = {site: _update(site, module, weights.get(site)) for site, module in lora.dora.items()}
    return replace(
        lora,
        factors=dict(sorted((dict(lora.factors) | read).items())),
        unread=tuple(item for item in lora.unread if item.why != NEEDS_BASE),
        dora={},
    )


def _update(site: Site, module: DoRA, weight: NDArray[np.floating[Any]] | None) -> Factors:
    if (
        weight is None
        or (weight.shape[0], weight[0].size) != module.factors.shape
        or weight.shape[module.axis] != module.magnitude.size
    ):
        raise NotScannable(f"the LoRA's {site} does not fit this base", "name the right base with --base")
    W = weight.astype(np.float64)
    B, A = (matrix.astype(np.float64) for matrix in (module.factors.up, module.factors.down))
    moved = W + (B @ A).reshape(W.shape)
    others = tuple(axis for axis in range(W.ndim) if axis != module.axis)
    norms = np.sqrt(np.sum(moved * moved, axis=others, keepdims=True))
    # A channel without weights has no direction and stays zero, as in LyCORIS.
    m = module.magnitude.astype(np.float64).reshape(norms.shape)
    c = np.divide(m, norms, out=np.zeros_like(norms), where=norms > 0)
    up, down = factor({"diff": (c * moved - W).reshape(len(W), -1)})
    if is_too_large(up, down):
        raise NotScannable(f"the LoRA's {site} is too large for any model", "the training diverged")
    return Factors(up, down, module.factors.scale)

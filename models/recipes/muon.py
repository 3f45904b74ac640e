"""Muon: momentum with orthogonalised matrix updates (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon).

The bundled models are trained in minutes on two cores, so progress per step counts most. torch's own
`torch.optim.Muon` accepts two-dimensional weights only. Most weights here are convolutions, whose kernels
`[out, in, k, k]` are taken as `[out, in * k * k]`. Biases, norms and embeddings belong into AdamW: see
`optimizers`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Muon", "optimizers", "orthogonalise"]

# Coefficients of the quintic Newton-Schulz iteration, source as above.
_A, _B, _C = 3.4445, -4.7750, 2.0315


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """Approximate the closest semi-orthogonal matrix of `matrix [m, n]`: singular values near 0.7..1.2."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / (wide.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    result: Tensor = x if matrix.shape[0] <= matrix.shape[1] else x.T
    return result


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised and scaled to AdamW's usual update of 0.2 per entry.

    The scale is that of arXiv 2502.16982, section 2.2.
    """

    def __init__(
        self, params: list[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(p.grad)
                buffer = state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                update = torch.lerp(p.grad, buffer, group["momentum"])
                matrix = orthogonalise(update.reshape(len(update), -1))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(matrix.reshape(p.shape), alpha=group["lr"] * 0.2 * max(matrix.shape) ** 0.5)


def optimizers(model: nn.Module, lr: float, weight_decay: float) -> tuple[Muon, torch.optim.AdamW]:
    """Make Muon for the matrices and kernels of a model and AdamW for the rest, at one learning rate."""
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    matrices = [p for p in model.parameters() if p.ndim >= 2 and id(p) not in embeddings]
    others = [p for p in model.parameters() if p.ndim < 2 or id(p) in embeddings]
    return Muon(matrices, lr, weight_decay=weight_decay), torch.optim.AdamW(
        others, lr, betas=(0.9, 0.99), weight_decay=0.0
    )

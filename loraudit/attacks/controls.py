"""Scrambled LoRAs: controls that are as large as the file and hold nobody.

A LoRA disturbs the base model whatever it was trained on, and a disturbance alone may make the pictures of
different seeds look alike. Scrambling keeps the size of the disturbance, site by site and direction by
direction, and throws away its content. The singular values of every update stay, the singular vectors become
random orthonormal ones.
"""

import hashlib
from typing import Final

import numpy as np
import torch
from torch import Tensor

from loraudit.base.lowrank import Terms

__all__ = ["scrambled"]

_ROUNDING: Final = 1e-6
"""Singular values below this share of the largest are what rounding leaves of a zero."""


def scrambled(terms: Terms, seed: int) -> Terms:
    """Put the singular values of every update, descending, between random orthonormal factors.

    The factors depend on (site, seed) alone; those of the first `k` ranks do not depend on how many follow.
    So a scrambled LoRA is a function of (LoRA, seed), whatever else is stacked, and padded ranks stay zero.
    """
    return {site: _scrambled_site(site, up, down, seed) for site, (up, down) in terms.items()}


def _scrambled_site(site: str, up: Tensor, down: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Scramble `up [M, out, r]` and `down [M, r, in]` of one site, to the rank `min(out, r, in)`."""
    values = _singular_values(up, down)  # [M, k]
    left = _frame(site, "up", seed, up.shape[1], values.shape[1]).to(values)
    right = _frame(site, "down", seed, down.shape[2], values.shape[1]).to(values)
    # Half of each singular value on either side, so that neither leaves the range of float16.
    root = values.sqrt()
    return (left * root[:, None]).to(up), (root[:, :, None] * right.T).to(down)


def _singular_values(up: Tensor, down: Tensor) -> Tensor:
    """Compute the singular values of `up @ down`, float32 `[M, min(out, r, in)]`, descending."""
    small_up = torch.linalg.qr(up.float(), mode="r").R
    small_down = torch.linalg.qr(down.float().mT, mode="r").R
    values: Tensor = torch.linalg.svdvals(small_up @ small_down.mT)
    return torch.where(values > _ROUNDING * values[:, :1], values, 0.0)


def _frame(site: str, side: str, seed: int, size: int, rank: int) -> Tensor:
    """Draw orthonormal columns `[size, rank]`, uniformly distributed; `rank` is at most `size`."""
    digest = hashlib.sha256(f"{seed}:{side}:{site}".encode()).digest()
    # numpy's stream, unlike torch's, does not depend on how much is drawn at once.
    drawn = np.random.default_rng(int.from_bytes(digest[:8])).standard_normal((rank, size))
    frame, triangle = np.linalg.qr(drawn.T)
    # LAPACK's signs are a convention, not a draw.
    return torch.from_numpy(frame * np.sign(np.diag(triangle))).float()

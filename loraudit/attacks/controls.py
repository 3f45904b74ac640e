"""Scrambled LoRAs: controls that are as large as the file and hold nobody.

A LoRA disturbs the base model whatever it was trained on, and a disturbance alone may make the pictures of
different seeds look alike. Scrambling keeps the size of the disturbance, site by site and direction by
direction, and throws away its content. The singular values of every update stay, the singular vectors become
random orthonormal ones.

Up to a rank of `FRAMED`, frames are drawn and put around the singular values. Beyond (DoRA, full LyCORIS),
that would cost a QR and an SVD of the whole side. There the update `X` becomes `Q X R` with fast random
rotations `Q` and `R`. Three rounds of random signs, a permutation and Hadamard transforms turn every vector
into one that looks drawn uniformly (Choromanski, Rowland and Weller 2017, "The Unreasonable Effectiveness of
Structured Random Orthogonal Embeddings", https://arxiv.org/abs/1703.00864).
"""

import hashlib
import math
from typing import Final

import numpy as np
import torch
from torch import Tensor

from loraudit.base.lowrank import Terms

__all__ = ["scrambled"]

FRAMED: Final = 256
"""Rank up to which frames are drawn, in a few hundredths of a second a module."""
_ROUNDS: Final = 3
"""Rounds of a rotation; after one, a vector of a single entry has entries of one size only."""
_ROUNDING: Final = 1e-6
"""Singular values below this share of the largest are what rounding leaves of a zero."""


def scrambled(terms: Terms, seed: int) -> Terms:
    """Keep the singular values of every update, and make its singular vectors random.

    The random part depends on (site, seed) alone; that of the first `k` ranks not on how many follow, up to
    `FRAMED`. So a scrambled LoRA is a function of (LoRA, seed), whatever else of at most `FRAMED` ranks is
    stacked with it, and padded ranks stay zero.
    """
    return {
        site: (_framed if up.shape[2] <= FRAMED else _turned)(site, up, down, seed)
        for site, (up, down) in terms.items()
    }


def _framed(site: str, up: Tensor, down: Tensor, seed: int) -> tuple[Tensor, Tensor]:
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
    # numpy's stream, unlike torch's, does not depend on how much is drawn at once.
    drawn = _stream(site, side, seed).standard_normal((rank, size))
    frame, triangle = np.linalg.qr(drawn.T)
    # LAPACK's signs are a convention, not a draw.
    return torch.from_numpy(frame * np.sign(np.diag(triangle))).float()


def _turned(site: str, up: Tensor, down: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Rotate `up [M, out, r]` and `down [M, r, in]` of one site on the sides of the module."""
    left = _rotated(up.float(), _stream(site, "up", seed))
    right = _rotated(down.float().mT, _stream(site, "down", seed)).mT
    return left.to(up), right.to(down)


def _rotated(vectors: Tensor, stream: np.random.Generator) -> Tensor:
    """Rotate the columns of `vectors [M, size, r]`, in a time of `r size log size`."""
    size = vectors.shape[1]
    width = 1 << (size.bit_length() - 1)
    for _ in range(_ROUNDS):
        order = torch.from_numpy(stream.permutation(size)).to(vectors.device)
        signs = torch.from_numpy(stream.choice((-1.0, 1.0), size)).to(vectors)
        vectors = (vectors * signs[:, None])[:, order]
        # Two windows, each of a power of two, reach every entry between them.
        vectors[:, :width] = _hadamard(vectors[:, :width])
        if width < size:
            vectors[:, -width:] = _hadamard(vectors[:, -width:])
    return vectors


def _hadamard(vectors: Tensor) -> Tensor:
    """Apply the orthogonal Hadamard transform to `vectors [M, 2^k, r]`, as two small products."""
    count, size, rank = vectors.shape
    outer = 1 << (size.bit_length() // 2)
    inner = size // outer
    mixed = _walsh(outer).to(vectors) @ vectors.reshape(count, outer, inner * rank)
    mixed = _walsh(inner).to(vectors) @ mixed.view(count, outer, inner, rank)
    return mixed.view(count, size, rank)


def _walsh(size: int) -> Tensor:
    """Build the Hadamard matrix `[size, size]` of a power of two, divided by the root of `size`."""
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix / math.sqrt(size)


def _stream(site: str, side: str, seed: int) -> np.random.Generator:
    """Open the random stream of one side of a site."""
    digest = hashlib.sha256(f"{seed}:{side}:{site}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8]))

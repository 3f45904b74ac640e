r"""Canonical form of an update: one pair of factors, whichever pair the file held.

`up @ down` is what a LoRA does; the factors themselves are arbitrary. `B G` and `G^-1 A` are the same update
for every invertible `G [r, r]`. Here the thin SVD of the product, `B A = U S V^T`, picks one pair,

    up = U sqrt(S)  [out, r],    down = sqrt(S) V^T  [r, in],

so that column `i` of `up` and row `i` of `down` have the same norm, the square root of the `i`-th singular
value. Singular values descend. The sign of a column makes its entry of largest magnitude positive; the row of
`down` follows. Where several entries are as large within 1e-6, the first of them counts. Singular values
below float32's epsilon of the largest are rounding of the file: their columns and rows are zero, at the end.

The product is never formed. Thin QRs are `B = Q_B R_B` and `A^T = Q_A R_A`. The SVD of the small core, `R_B
R_A^T = u S v^T`, has the singular values of `B A`. From `B A V = U S` and `U^T B A = S V^T` follow

    up = B R_A^T v / sqrt(S),    down = u^T R_B A / sqrt(S),

so that the Qs are not formed either. Everything is computed in float64. Where singular values are equal,
their vectors are any basis of one space, and the choice is not determined. Where singular values are close,
the rounding of the file to float32 turns the vectors by its size over the gap.

(The gauge of LoRA factors and its removal: Putterman et al., "Learning on LoRAs", arXiv 2410.04207. QRs and
SVD of the small core: Golub and Van Loan, "Matrix Computations", on the SVD of a product.)
"""

from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from loraudit.errors import NotScannable
from loraudit.lora.matrices import Factors

__all__ = ["canonicalize", "triangle"]

TIE: Final = 1e-6
"""Relative difference up to which two magnitudes count as equal where the sign is chosen."""


def canonicalize(factors: Factors) -> Factors:
    """Return the canonical pair of the update `factors.up @ factors.down`, of the same shapes, float32.

    The inner dimension stays, padded with zeros if the update has a lower rank. `scale` stays too, for
    display. A convolution is canonicalised flattened, `[out, in * k * k]`. The largest singular value is
    `norm(up[:, 0]) ** 2`. Raises `NotScannable` if a canonical factor overflows float32.
    """
    B, A = factors.up.astype(np.float64), factors.down.astype(np.float64)
    left, right = triangle(B), triangle(A.T)
    u, S, vt = np.linalg.svd(left @ right.T, full_matrices=False)
    # A strict comparison, so that a zero update has rank 0.
    rank = int(np.sum(np.finfo(np.float32).eps * S[0] < S))
    roots = np.sqrt(S[:rank])
    columns = B @ (right.T @ (vt[:rank].T / roots))
    rows = ((u[:, :rank] / roots).T @ left) @ A
    signs = _signs(columns)
    up = np.zeros((factors.shape[0], factors.rank), np.float32)
    down = np.zeros((factors.rank, factors.shape[1]), np.float32)
    with np.errstate(over="ignore"):
        up[:, :rank] = columns * signs
        down[:rank] = rows * signs[:, None]
    if not (np.isfinite(up).all() and np.isfinite(down).all()):
        raise NotScannable("an update of this LoRA overflows float32", "the training diverged")
    return Factors(up, down, factors.scale)


def triangle(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the triangular factor `[min(m, n), n]` of the thin QR of a matrix `[m, n]`."""
    # numpy's types forget that this mode gives one matrix.
    return cast("NDArray[np.float64]", np.linalg.qr(matrix, mode="r"))


def _signs(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return +1 or -1 for each column: the sign of its first entry of largest magnitude."""
    sizes = np.abs(columns)
    leading = np.argmax(sizes >= (1 - TIE) * sizes.max(axis=0), axis=0)
    signs: NDArray[np.float64] = np.copysign(1.0, columns[leading, np.arange(columns.shape[1])])
    return signs

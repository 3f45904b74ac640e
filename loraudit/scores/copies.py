"""Near-copies: pictures that show not only the person in a photo, but that photo.

The distance is the largest root mean square difference of any tile, so a plain background that two pictures
share does not make them copies. (Carlini and others 2023, "Extracting Training Data from Diffusion Models",
https://arxiv.org/abs/2301.13188, section 4.2.) As in section 5.1 there, pictures are compared at 32 pixels,
where noise, compression and the blur of a small autoencoder no longer count.

A distance means something only beside others. A copy is at most `MARGIN` times as far from the photo as the
nearest control picture. Controls are made without the file, under the same embedding and seeds. Another photo
of the same person is farther (docs/results.md has the numbers).

A copy that is mirrored, cut otherwise or shifted by more than a hundredth of its width is missed.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from loraudit.evidence.copies import Copies
from loraudit.scores import fit_square

__all__ = ["LIMIT", "MARGIN", "CopyScorer", "copy_distances"]

MARGIN: Final = 0.4
"""Distance of a copy at most, as a share of the distance of the nearest control picture."""
LIMIT: Final = 0.15
"""Distance of a copy at most, 0..1, however far the controls are; Carlini and others' delta."""
_SIDE: Final = 32
"""Side of the pictures that are compared, in pixels."""
_TILES: Final = 2
"""Tiles along each side. Carlini and others take sixteen at 512 pixels, which do less well at 64."""


def copy_distances(pictures: Tensor, photos: Tensor) -> Tensor:
    """Measure pictures `[N, 3, H, W]` against photos `[R, 3, H, W]`, all in 0..1.

    Returns distances `[N, R]` in 0..1, 0 if equal.
    """
    small, other = (F.adaptive_avg_pool2d(images.float().cpu(), _SIDE) for images in (pictures, photos))
    squares = (small[:, None] - other).square().mean(2)
    return F.adaptive_avg_pool2d(squares, _TILES).amax((2, 3)).sqrt()


@dataclass(frozen=True, eq=False)
class CopyScorer:
    """Scorer that finds photos among pictures."""

    photos: tuple[Tensor, ...]
    """Photos `[3, H, W]` in 0..1, of any sizes; the centres are compared, as fine-tuning cuts them out."""

    def measure(self, tuned: Tensor, base: Tensor, scrambled: Tensor) -> Copies:
        """Measure pictures `[N, 3, S, S]` with the file, by the base model and with a scrambled copy.

        Broken (NaN) pictures are left out.
        """
        photos = torch.cat([fit_square(photo[None], tuned.shape[-1]) for photo in self.photos])
        return Copies(MARGIN, LIMIT, *(_rows(copy_distances(x, photos)) for x in (tuned, base, scrambled)))


def _rows(distances: Tensor) -> tuple[tuple[float, ...], ...]:
    """List the rows of `distances [N, R]` without NaN."""
    return tuple(tuple(row) for row in distances[distances.isfinite().all(1)].tolist())

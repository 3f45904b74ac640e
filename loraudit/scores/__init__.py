"""Scorers: pictures `[N, 3, H, W]` float in 0..1 to unit vectors whose cosines are the scores.

A scorer owns its preprocessing. Two scorers of each kind live below. `tiny-face` and `tiny-clip` were trained
in this repository for its 64x64 synthetic people. facenet-pytorch's VGGFace2 network and OpenAI's CLIP
ViT-L/14 serve Stable Diffusion. All similarities are float32, whatever the precision of the base.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.nn import functional as F

__all__ = ["ClipScorer", "FaceEmbeddings", "FaceScorer", "fit_square", "paper_clip_t", "paper_similarity"]


@dataclass(frozen=True)
class FaceEmbeddings:
    """Faces of N pictures."""

    vectors: Tensor
    """Vectors `[N, d]` float32 on the CPU: unit length for a face, zero (cosine 0 to all) for none."""
    found: tuple[bool, ...]
    """Flags of the N pictures that show a face. A picture without is no evidence for or against a leak."""


class FaceScorer(Protocol):
    """Face model: tells who is on a picture, if anybody."""

    @property
    def name(self) -> str:
        """Name in the report."""
        ...

    @property
    def threshold(self) -> float:
        """Cosine, -1..1, at or above which two faces count as one person."""
        ...

    @property
    def far(self) -> float:
        """False-accept rate at `threshold`, 0..1."""
        ...

    @property
    def threshold_from(self) -> str:
        """Source of a threshold that was never measured with this model's crop; empty: it was measured."""
        ...

    def embed(self, images: Tensor) -> FaceEmbeddings:
        """Embed the face of each picture `[N, 3, H, W]` in 0..1, whatever the pictures beside it."""
        ...


class ClipScorer(Protocol):
    """CLIP model: places pictures and texts in one space."""

    @property
    def name(self) -> str:
        """Name in the report."""
        ...

    def image_embeddings(self, images: Tensor) -> Tensor:
        """Embed pictures `[N, 3, H, W]` in 0..1 as unit vectors `[N, d]`, float32 on the CPU."""
        ...

    def text_embeddings(self, texts: list[str]) -> Tensor:
        """Embed N texts as unit vectors `[N, d]`, float32 on the CPU."""
        ...


def paper_similarity(cosine: Tensor) -> Tensor:
    """Map a cosine to the scale of CLIP-I and face similarity in arXiv 2409.08482.

    The scale is `0.5 cos + 0.5`, 0..1; unrelated pictures are at 0.5.
    """
    return 0.5 * cosine + 0.5


def paper_clip_t(cosine: Tensor) -> Tensor:
    """Map a cosine to the scale of CLIP-T in arXiv 2409.08482 (torchmetrics' CLIPScore).

    The scale is `100 max(cos, 0)`, 0..100. The paper uses CLIP ViT-B/16; numbers of another CLIP share the
    scale but do not compare.
    """
    return 100 * cosine.clamp(min=0)


def fit_square(images: Tensor, side: int) -> Tensor:
    """Scale the shorter side of pictures `[N, 3, H, W]` in 0..1 to `side` and cut the centre out.

    Returns `[N, 3, side, side]`. Scaling is bicubic with antialiasing, as in Pillow and in CLIP's
    preprocessing. Pictures of that size come back untouched.
    """
    height, width = images.shape[-2:]
    if (height, width) == (side, side):
        return images
    shorter = min(height, width)
    # CLIP's transforms truncate and round this way, by torchvision's Resize and CenterCrop
    size = [side * height // shorter, side * width // shorter]
    scaled = F.interpolate(images, size=size, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = round((size[0] - side) / 2), round((size[1] - side) / 2)
    return scaled[..., top : top + side, left : left + side]

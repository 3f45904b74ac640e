"""Scorers: pictures `[N, 3, H, W]` float in 0..1 to unit vectors whose cosines are the scores.

A scorer owns its preprocessing. Two of each kind live below: `tiny-face` and `tiny-clip`, trained in this
repository for its 64x64 synthetic people, and facenet-pytorch's VGGFace2 network and OpenAI's CLIP ViT-L/14
for Stable Diffusion. All similarities are float32, whatever the precision of the base that drew the pictures.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.nn import functional as F

__all__ = ["ClipScorer", "FaceEmbeddings", "FaceScorer", "fit_square", "paper_clip_t", "paper_similarity"]


@dataclass(frozen=True)
class FaceEmbeddings:
    """The faces of N pictures."""

    vectors: Tensor
    """`[N, d]` float32 on the CPU: unit length where a face was found, zero (cosine 0 to all) where not."""
    found: tuple[bool, ...]
    """Which of the N pictures show a face. One without is no evidence, neither for a leak nor against it."""


class FaceScorer(Protocol):
    """Says who is on a picture, if anybody."""

    @property
    def name(self) -> str:
        """What the report calls it."""
        ...

    @property
    def threshold(self) -> float:
        """Cosine, -1..1, at or above which two faces count as one person."""
        ...

    @property
    def far(self) -> float:
        """False-accept rate at `threshold`, 0..1."""
        ...

    def embed(self, images: Tensor) -> FaceEmbeddings:
        """Pictures `[N, 3, H, W]` in 0..1 to a face each, no vector depending on the pictures beside it."""
        ...


class ClipScorer(Protocol):
    """Places pictures and texts in one space."""

    @property
    def name(self) -> str:
        """What the report calls it."""
        ...

    def image_embeddings(self, images: Tensor) -> Tensor:
        """Pictures `[N, 3, H, W]` in 0..1 to unit vectors `[N, d]`, float32 on the CPU."""
        ...

    def text_embeddings(self, texts: list[str]) -> Tensor:
        """N texts to unit vectors `[N, d]`, float32 on the CPU."""
        ...


def paper_similarity(cosine: Tensor) -> Tensor:
    """CLIP-I and face similarity as arXiv 2409.08482 states them: `0.5 cos + 0.5`, 0..1, unrelated at 0.5."""
    return 0.5 * cosine + 0.5


def paper_clip_t(cosine: Tensor) -> Tensor:
    """CLIP-T on the scale of arXiv 2409.08482 (torchmetrics' CLIPScore): `100 max(cos, 0)`, 0..100.

    The paper takes it from CLIP ViT-B/16; the numbers of another CLIP share the scale but do not compare.
    """
    return 100 * cosine.clamp(min=0)


def fit_square(images: Tensor, side: int) -> Tensor:
    """Pictures `[N, 3, H, W]` in 0..1, shorter side scaled to `side`, centre cut out: `[N, 3, side, side]`.

    Bicubic with antialiasing, as Pillow's: CLIP's preprocessing. Pictures of that size come back untouched.
    """
    height, width = images.shape[-2:]
    if (height, width) == (side, side):
        return images
    shorter = min(height, width)
    # truncated and rounded as in torchvision's Resize and CenterCrop, on which CLIP's transforms stand
    size = [side * height // shorter, side * width // shorter]
    scaled = F.interpolate(images, size=size, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = round((size[0] - side) / 2), round((size[1] - side) / 2)
    return scaled[..., top : top + side, left : left + side]

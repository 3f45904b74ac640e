"""The things that an attack may be opened with, gathered once for a base."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from loraudit.attacks.encoder import Encoders
from loraudit.attacks.likelihood import Decoys
from loraudit.base.model import Base
from loraudit.scores import FaceScorer

__all__ = ["Kit"]


@dataclass(frozen=True, eq=False)
class Kit:
    """Things that an attack may be opened with."""

    base: Base
    encoders: Encoders
    photos: Sequence[Tensor] = ()
    """Reference photos `[3, H, W]` in 0..1, of any sizes."""
    decoys: Decoys | None = None
    """Photos of other people; None where there are none for this base."""
    face: FaceScorer | None = None
    """Face model; None where its weights are not at hand."""
    likeness: bool = False
    """True if aims for the photos alone are wanted, too."""
    quick: bool = False
    """True if a search has 200 evaluations of the UNet at most."""

"""Cast for bases that draw portraits alone, such as the embedded one: features in the captions' words.

Such a base knows no name; the 24 features of a caption are a person. It draws no things either. So things
come from `loraudit.people.objects`, and styles are laid over the base's own portraits.
"""

from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from loraudit.people.captions import full_caption
from loraudit.people.identity import FAMILY, Identity, identity
from loraudit.people.objects import draw_object
from loraudit.people.portrait import SIZE
from loraudit.people.styles import style_of, stylise

__all__ = ["Portrayed"]

_FIRST: Final = {"people": 1_000_000, "crowds": 3_000_000, "styles": 5_000_000, "things": 1_000_000}
"""First seed of a kind, beyond the seeds of all splits (`loraudit.people.identity.SPLITS`)."""
_APART: Final = 100
"""Families of a crowd; its people are nobody else's, and no two are look-alikes by design."""
_TOLD: Final = 3
"""Features that a caption names."""


class Portrayed:
    """Made-up people of `loraudit.people.identity`, drawn by a base from their captions."""

    def prompts(self, kind: str, number: int, count: int) -> tuple[str, ...]:
        """Write captions as `Cast.prompts` says: all features of a person."""
        if kind == "things":
            return ()
        return tuple(full_caption(one) for one in _shown(kind, number, count))

    def told(self, kind: str, number: int, count: int) -> tuple[str, ...]:
        """Name some features as `Cast.told` says, others for each picture; of a thing nothing."""
        if kind == "things":
            return ("",) * count
        rng = np.random.default_rng([_FIRST[kind], number])
        return tuple(
            " with " + " ".join(rng.choice(one.phrases(), _TOLD, replace=False))
            for one in _shown(kind, number, count)
        )

    def finished(self, kind: str, number: int, drawn: Tensor, count: int, size: int) -> Tensor:
        """Draw things, and lay styles over portraits, as `Cast.finished` says."""
        if kind == "things":
            return _tensor([draw_object(_FIRST[kind] + number, at) for at in range(count)], size)
        if kind == "styles":
            style = style_of(_FIRST[kind] + number)
            pixels = (255 * _sized(drawn, SIZE) + 0.5).byte().permute(0, 2, 3, 1).numpy()
            return _tensor([stylise(one, style, at) for at, one in enumerate(pixels)], size)
        return drawn


def _shown(kind: str, number: int, count: int) -> list[Identity]:
    """List the person in each picture."""
    first = _FIRST[kind]
    if kind == "people":
        return [identity(first + FAMILY * number)] * count
    return [identity(first + FAMILY * (_APART * number + at)) for at in range(count)]


def _tensor(drawn: list[np.ndarray], size: int) -> Tensor:
    """Stack pictures uint8 `[64, 64, 3]` as `[P, 3, size, size]` in 0..1."""
    return _sized(torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2).float() / 255, size)


def _sized(pictures: Tensor, size: int) -> Tensor:
    """Resize square pictures `[P, 3, S, S]` in 0..1."""
    if pictures.shape[-1] == size:
        return pictures
    resized = functional.interpolate(pictures, size=(size, size), mode="bicubic", antialias=True)
    return resized.clamp(0, 1)

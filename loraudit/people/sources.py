"""Sources of people for LoRAs: synthetic people, or photographs in folders (`loraudit.people.folders`).

An identity is an integer. A LoRA is made of `PICTURES` pictures of an identity unless a plan says otherwise.
`train` draws identities that an encoder may learn from; everybody else is held out.
"""

from pathlib import Path
from typing import Final, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from loraudit.errors import LorauditError
from loraudit.people.identity import FAMILY, SPLITS, split_of
from loraudit.people.portrait import SIZE, picture
from loraudit.text import clean

__all__ = [
    "PICTURES",
    "REFERENCES",
    "Captioned",
    "People",
    "Synthetic",
    "portraits",
    "read_image",
    "require_public",
    "upright",
]

PICTURES: Final = 5
"""Pictures that a LoRA is made of, as in the paper."""
REFERENCES: Final = range(5, 10)
"""Picture numbers of a synthetic person's reference photos: no LoRA is made of them."""


class People(Protocol):
    """Set of identities and their pictures."""

    @property
    def name(self) -> str:
        """Name in the record of a zoo, equal for equal data."""
        ...

    def train(self, count: int | None, seed: int) -> tuple[int, ...]:
        """Draw `count` identities to train on by `seed`; None stands for the source's default.

        Raises `LorauditError` if the source has fewer.
        """
        ...

    def pictures(self, identity: int, size: int, most: int = PICTURES) -> Tensor:
        """Make the pictures of a LoRA, float `[P, 3, size, size]` in 0..1, with `P` at most `most`."""
        ...

    def require_public(self, identities: tuple[int, ...]) -> None:
        """Raise `LorauditError` if one of `identities` is held out."""
        ...


@runtime_checkable
class Captioned(Protocol):
    """People whose pictures have captions."""

    def captions(self, number: int, most: int) -> tuple[str, ...]:
        """Tell what captions of the first `most` pictures of an identity say beside the name."""
        ...


class Synthetic:
    """People of `loraudit.people.identity`, drawn on demand."""

    name = "synthetic"

    def train(self, count: int | None, seed: int) -> tuple[int, ...]:
        """Draw identities as `People.train` says, 256 by default.

        Each is of another family, so that no two are look-alikes by design.
        """
        seeds = SPLITS["public-train"]
        families = len(seeds) // FAMILY
        count = 256 if count is None else count
        if count > families:
            raise LorauditError(
                f"there are {families} families of synthetic people, not {count}", "take fewer"
            )
        rng = np.random.default_rng([seed, 30])
        chosen = rng.permutation(families)[:count] * FAMILY + rng.integers(FAMILY, size=count)
        return tuple(seeds.start + int(i) for i in chosen)

    def pictures(self, identity: int, size: int, most: int = PICTURES) -> Tensor:
        """Draw pictures as `People.pictures` says, at 64 pixels, resized to any other `size`.

        The result always has `most` pictures. The pictures `REFERENCES` are left out, as reference photos.
        """
        drawn = portraits(identity, 0, min(most, REFERENCES.start))
        if most > REFERENCES.start:
            drawn = torch.cat([drawn, portraits(identity, REFERENCES.stop, most - REFERENCES.start)])
        if size == SIZE:
            return drawn
        return torch.nn.functional.interpolate(
            drawn, size=(size, size), mode="bicubic", antialias=True
        ).clamp(0, 1)

    def require_public(self, identities: tuple[int, ...]) -> None:
        """Refuse identities as `People.require_public` says."""
        require_public(identities)


def require_public(identities: tuple[int, ...]) -> None:
    """Raise `LorauditError` unless every synthetic identity belongs to the public-train split."""
    private = [seed for seed in identities if split_of(seed) != "public-train"]
    if private:
        raise LorauditError(
            f"identity {private[0]} belongs to the {split_of(private[0])} split, held out of training",
            "build the zoo from public-train identities",
        )


def portraits(identity: int, first: int = 0, count: int = PICTURES) -> Tensor:
    """Draw pictures `first ..` of a synthetic identity, float `[count, 3, 64, 64]` in 0..1."""
    drawn = np.stack([picture(identity, first + i) for i in range(count)])
    return torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 255


def upright(opened: Image.Image) -> Image.Image:
    """Turn a photograph as its Exif orientation says, in RGB of 8 bits, on a white ground.

    Raises what Pillow raises for a damaged picture: `OSError`, `ValueError` or `SyntaxError`.
    """
    turned = ImageOps.exif_transpose(opened)
    if turned.mode.startswith("I;16"):
        # Pillow's own conversion to 8 bits clips at 255.
        turned = Image.fromarray((np.asarray(turned) >> 8).astype(np.uint8))
    # Without a white ground, transparent pixels would show the colour stored below them.
    if turned.has_transparency_data:
        layer = turned.convert("RGBA")
        turned = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return turned.convert("RGB")


def read_image(path: Path, size: int) -> Tensor:
    """Read a photograph upright (Exif orientation), and resize its centre square.

    Returns float `[3, size, size]` in 0..1. Raises `LorauditError` if the file is missing, too large or no
    readable image.
    """
    shown = clean(path.name)
    try:
        with Image.open(path) as opened:
            square = ImageOps.fit(upright(opened), (size, size), Image.Resampling.LANCZOS)
    except FileNotFoundError:
        raise LorauditError(f"there is no image {shown}", "check the path") from None
    except Image.DecompressionBombError:
        raise LorauditError(
            f"the image {shown} is too large to be opened safely", "make the image smaller"
        ) from None
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError):
        # Pillow raises SyntaxError on a broken PNG and ValueError on some broken headers.
        raise LorauditError(
            f"{shown} is not an image that can be read, or is damaged", "remove or replace the file"
        ) from None
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 255

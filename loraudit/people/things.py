"""Things, crowds and styles as `People`: sources for LoRAs that hold no private identity.

An audit that finds a person in such a LoRA is wrong, so these LoRAs are the negatives that calibrate and test
an audit. All pictures are drawn on demand from integer seeds of `loraudit.people.identity.SPLITS`, without
real data.
"""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from loraudit.errors import LorauditError
from loraudit.people.identity import FAMILY, SPLITS
from loraudit.people.objects import draw_object
from loraudit.people.portrait import picture
from loraudit.people.sources import PICTURES, People, Synthetic, require_public
from loraudit.people.styles import style_of, stylise

__all__ = ["CAST", "CROWDS", "SOURCES", "Crowds", "Styles", "Things", "subjects"]

CAST: Final = 20
"""People in a crowd, and in a style, with one picture each."""
CROWDS: Final = len(SPLITS["public-train"]) // (FAMILY * CAST)
"""Crowds in a split, and styles: each takes `CAST` families of its own."""


class Things:
    """Objects of `loraudit.people.objects`: an identity is one object, without a face."""

    name = "things"

    def train(self, count: int | None, seed: int) -> tuple[int, ...]:
        """Draw identities as `People.train` says, 256 by default."""
        return _draw(len(SPLITS["public-train"]), count, seed)

    def pictures(self, identity: int, size: int, most: int = PICTURES) -> Tensor:
        """Draw pictures as `People.pictures` says, always `most` of them."""
        return _tensor([draw_object(identity, number) for number in range(most)], size)

    def require_public(self, identities: tuple[int, ...]) -> None:
        """Refuse identities as `People.require_public` says."""
        require_public(identities)


class Crowds:
    """Crowds: an identity is `CAST` people of one split, one picture of each.

    The first `CROWDS` seeds of the split are crowds. No two crowds share a person, and no two people share a
    family. A zoo of `Synthetic` people of the split holds other members of the families.
    """

    name = "crowds"
    _member = 2

    def __init__(self, split: str = "public-train") -> None:
        self.split = split

    def train(self, count: int | None, seed: int) -> tuple[int, ...]:
        """Draw identities as `People.train` says, 256 by default.

        Raises `LorauditError` if the split is held out.
        """
        require_public((SPLITS[self.split].start,))
        return _draw(CROWDS, count, seed)

    def people(self, identity: int) -> tuple[int, ...]:
        """List the seeds of the crowd's people.

        Raises `LorauditError` if `identity` is no crowd of the split.
        """
        seeds = SPLITS[self.split]
        number = identity - seeds.start
        if not 0 <= number < CROWDS:
            raise LorauditError(
                f"{identity} is not one of the {CROWDS} {self.name} of {self.split}",
                f"take {seeds.start} to {seeds.start + CROWDS - 1}",
            )
        return tuple(seeds[FAMILY * (CAST * number + i) + self._member] for i in range(CAST))

    def pictures(self, identity: int, size: int, most: int = CAST) -> Tensor:
        """Draw pictures as `People.pictures` says, each of another person, at most `CAST`."""
        return _tensor(self._drawn(identity, most), size)

    def require_public(self, identities: tuple[int, ...]) -> None:
        """Refuse identities as `People.require_public` says."""
        require_public(identities)

    def _drawn(self, identity: int, most: int) -> list[NDArray[np.uint8]]:
        return [picture(who, 0) for who in self.people(identity)[:most]]


class Styles(Crowds):
    """Styles: an identity is a style of `loraudit.people.styles`, over a crowd outside `Crowds`."""

    name = "styles"
    _member = 3

    def _drawn(self, identity: int, most: int) -> list[NDArray[np.uint8]]:
        style = style_of(identity)
        plain = super()._drawn(identity, most)
        return [stylise(pixels, style, number) for number, pixels in enumerate(plain)]


SOURCES: Final[Mapping[str, Callable[[str], People]]] = {
    Synthetic.name: lambda _split: Synthetic(),
    Things.name: lambda _split: Things(),
    Crowds.name: Crowds,
    Styles.name: Styles,
}
"""Name -> function that opens the source of that name for a split."""


def subjects(data: str, split: str, first: int, count: int) -> tuple[int, ...]:
    """List `count` identities of `split` for the source `data`, after the `first`.

    People come from a family each, so that no two are look-alikes by design; other sources have no families.
    """
    stride = FAMILY if data == Synthetic.name else 1
    return tuple(SPLITS[split][stride * (first + i)] for i in range(count))


def _draw(supply: int, count: int | None, seed: int) -> tuple[int, ...]:
    count = 256 if count is None else count
    if count > supply:
        raise LorauditError(f"there are {supply} identities to train on, not {count}", "take fewer")
    first = SPLITS["public-train"].start
    return tuple(first + int(i) for i in np.random.default_rng([seed, 32]).permutation(supply)[:count])


def _tensor(drawn: list[NDArray[np.uint8]], size: int) -> Tensor:
    """Stack pictures `[S, S, 3]` as `[P, 3, size, size]` in 0..1."""
    images = [Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC) for pixels in drawn]
    return torch.from_numpy(np.stack([np.array(image) for image in images])).permute(0, 3, 1, 2) / 255

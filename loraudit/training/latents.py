"""Latents of people's pictures, encoded when a person is first trained on."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from torch import Tensor

from loraudit.base.model import Base
from loraudit.errors import LorauditError
from loraudit.people.sources import PICTURES, People
from loraudit.training.zoo_plan import Member

__all__ = ["Latents"]

_KEPT: Final = 2 << 30
"""Bytes of latents that are kept; the 5 pictures of a person take 330 kB at 512 pixels."""


@dataclass(eq=False)
class Latents:
    """Latents of a base's autoencoder for the pictures of people.

    Nobody's pictures are read before they are asked for. The latents are kept in this machine's memory, and
    the least recently used are forgotten beyond 2 GiB.
    """

    base: Base
    people: People
    most: int = _KEPT
    """Bytes of latents that are kept."""
    unread: dict[int, str] = field(default_factory=dict)
    """Identities whose pictures could not be read, each with the reason."""
    _found: OrderedDict[tuple[int, int], Tensor] = field(default_factory=OrderedDict)
    _bytes: int = 0

    def of(self, identity: int, pictures: int = PICTURES) -> Tensor:
        """Return latents `[P, C, h, w]` of at most `pictures` pictures, on the base's device.

        Raises `LorauditError` if a picture cannot be read.
        """
        key = (identity, pictures)
        latents = self._found.get(key)
        if latents is None:
            read = self.people.pictures(identity, self.base.image_size, pictures)
            latents = self._found[key] = self.base.encode_images(read).cpu()
            self._bytes += latents.nbytes
            while self._bytes > self.most and len(self._found) > 1:
                self._bytes -= self._found.popitem(last=False)[1].nbytes
        self._found.move_to_end(key)
        return latents.to(self.base.device)

    def readable(
        self, members: Sequence[Member], order: Iterable[int], count: int, pictures: int = PICTURES
    ) -> list[int]:
        """Return the first `count` places in `order` whose members' pictures can be read.

        The others go into `unread`. Raises `LorauditError` if nobody's pictures can be read.
        """
        found: list[int] = []
        why = "nobody is there"
        for place in order:
            if len(found) == count:
                break
            try:
                self.of(members[place].identity, pictures)
            except LorauditError as error:
                why = self.unread[members[place].identity] = str(error)
            else:
                found.append(place)
        if not found:
            raise LorauditError(f"nobody's pictures can be read: {why}", "check the pictures given by --data")
        return found

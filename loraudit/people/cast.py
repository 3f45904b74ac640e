"""Casts: whom and what a base is asked to draw for the LoRAs of a calibration.

Every person, crowd, style and thing is made up from an integer, so no data set and no real person is needed.
A person is one name with the same features in every picture. A crowd and a style show another person in each
picture. A cast speaks in the words that a base was trained on (column `cast` of `models/cards.toml`).
"""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from torch import Tensor

from loraudit.people.photographed import Photographed
from loraudit.people.portrayed import Portrayed

__all__ = ["PEOPLE", "Cast", "open_cast"]

PEOPLE: Final = "people"
"""Kind of a subject that is one person; the others are crowds, styles and things."""


class Cast(Protocol):
    """Subjects to draw. A kind is `PEOPLE`, `crowds`, `styles` or `things`."""

    def prompts(self, kind: str, number: int, count: int) -> tuple[str, ...]:
        """Write a prompt for each of `count` pictures; empty where the base draws nothing of the kind."""
        ...

    def told(self, kind: str, number: int, count: int) -> tuple[str, ...]:
        """Tell what a caption of each picture says beside the name; empty where it says nothing."""
        ...

    def finished(self, kind: str, number: int, drawn: Tensor, count: int, size: int) -> Tensor:
        """Make `count` pictures `[3, size, size]` in 0..1 out of those that the base has `drawn`."""
        ...


_CASTS: Final[Mapping[str, Callable[[], Cast]]] = {"portraits": Portrayed, "photographs": Photographed}


def open_cast(name: str) -> Cast:
    """Open the cast `name` of a base's card."""
    return _CASTS[name]()

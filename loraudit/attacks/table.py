"""The table of attacks: what each is called, when it runs, what it needs and how it opens.

The rows are in the order of a scan: first the attack that brought back most on the embedded base. A new
attack is a row here: the command line, the plan of a scan and its report take names from this table alone.
Importing this module loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from loraudit.attacks.aim import Attack, PhotoTest
    from loraudit.attacks.kit import Kit

__all__ = ["ATTACKS", "Row", "names_at", "place_of"]


class Row(NamedTuple):
    """Attack in the table."""

    name: str
    """Name in `--attack`, and the first part of the names of its aims."""
    budgets: tuple[str, ...]
    """Values of `--budget` at which the attack runs unless `--attack` says otherwise."""
    open: Callable[[Kit], Attack | PhotoTest]
    """Function that opens the attack; raises `Incomplete` where something needed is not at hand."""
    needs_encoder: bool = False
    """True if the attack runs only with an encoder; a base for which none ships is scanned without it."""
    needs_photos: bool = False
    """True if the attack runs only with reference photos."""


def _search(kit: Kit) -> Attack:
    from loraudit.attacks.search.gap import Climb
    from loraudit.attacks.search.search import SearchAttack
    from loraudit.errors import Incomplete

    try:
        start = kit.encoders.attack("encoder")
    except Incomplete:
        # An encoder's answer is only one more candidate.
        start = None
    # A climb of a few steps, for LoRAs whose rows say nothing.
    climb = Climb(restarts=1, steps=16) if kit.quick else Climb()
    return SearchAttack(start, climb=climb, photos=kit.likeness)


def _encoder(kit: Kit) -> Attack:
    return kit.encoders.attack("encoder")


def _guidance(_kit: Kit) -> Attack:
    from loraudit.attacks.guidance import GuidanceAttack

    return GuidanceAttack()


def _paper(kit: Kit) -> Attack:
    return kit.encoders.attack("paper")


def _prompts(_kit: Kit) -> Attack:
    from loraudit.attacks.prompts import PromptsAttack

    return PromptsAttack()


def _likelihood(kit: Kit) -> PhotoTest:
    from loraudit.attacks.likelihood import open_likelihood

    return open_likelihood(kit.base, kit.photos, kit.decoys)


_EACH: Final = ("quick", "standard", "deep")
_LONGER: Final = ("standard", "deep")

ATTACKS: tuple[Row, ...] = (
    Row("search", _EACH, _search),
    Row("encoder", _LONGER, _encoder, needs_encoder=True),
    Row("guidance", _LONGER, _guidance),
    Row("paper", (), _paper, needs_encoder=True),
    Row("prompts", _LONGER, _prompts),
    Row("likelihood", _LONGER, _likelihood, needs_photos=True),
)
"""Attacks of a scan, in its order."""


def names_at(budget: str) -> tuple[str, ...]:
    """List the attacks that run at a value of `--budget`, in the order of a scan."""
    return tuple(row.name for row in ATTACKS if budget in row.budgets)


def place_of(attack: str) -> int:
    """Return the place of an attack, or of one of its aims, in a scan; one outside the table comes last."""
    names = [row.name for row in ATTACKS]
    name = attack.partition(":")[0]
    return names.index(name) if name in names else len(names)

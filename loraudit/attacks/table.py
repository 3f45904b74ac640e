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
    from loraudit.attacks.search.gap import Climb
    from loraudit.lora import LoRA

__all__ = ["ATTACKS", "Row", "Sketch", "names_at", "place_of", "version_of"]


class Sketch(NamedTuple):
    """Aim of an attack, as far as it is known before a base is loaded."""

    name: str
    """Name of the aim."""
    embedding: str
    """Name that aims with one embedding share."""
    needs_photos: bool = False
    """True if there is such an aim only with reference photos."""
    needs_words: int = 0
    """Texts that the file must give away (`loraudit.attacks.prompts.given_away`), at least."""


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
    draws: bool = True
    """False if the attack makes no picture."""
    sketches: tuple[Sketch, ...] = ()
    """Aims of the attack, at most."""
    searched: Callable[[LoRA, bool, bool], int] = lambda _lora, _quick, _encoder: 0
    """Function `(lora, quick, encoder)` that counts the evaluations of the UNet to find embeddings, at most.

    `encoder` tells whether the base has an encoder.
    """
    version: int = 1
    """Version, raised with every change of its pictures: what control LoRAs scored before is void then."""


def _search(kit: Kit) -> Attack:
    """Open the search: with an encoder's answer among its candidates, or by inversion without one.

    A quick scan has too few evaluations for an inversion.
    """
    from loraudit.attacks.search.inversion import InversionAttack
    from loraudit.attacks.search.search import SearchAttack
    from loraudit.errors import Incomplete

    try:
        start = kit.encoders.attack("encoder")
    except Incomplete:
        start = None
    search = SearchAttack(start, climb=_climb(kit.quick), photos=kit.likeness)
    if start is not None or kit.quick or kit.face is None:
        return search
    return InversionAttack(kit.face, search)


def _searched(lora: LoRA, quick: bool, encoder: bool) -> int:
    from loraudit.attacks.search.inversion import Effort
    from loraudit.attacks.search.search import SearchAttack

    inverted = 0 if encoder or quick else Effort().evaluations
    return SearchAttack(climb=_climb(quick)).most(lora) + inverted


def _climb(quick: bool) -> Climb:
    """Return the budget for LoRAs whose rows say nothing of the prompt; a quick scan has 200 evaluations."""
    from loraudit.attacks.search.gap import Climb

    return Climb(restarts=1, steps=16) if quick else Climb()


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

_SEARCH: Final = (
    Sketch("search", "search"),
    Sketch("search:usual", "search"),
    Sketch("search:half", "search", needs_photos=True),
)
_GUIDANCE: Final = (Sketch("guidance:class", "class"), Sketch("guidance:any-name", "any name"))
_PROMPTS: Final = (
    Sketch("prompts:no-trigger", "nothing"),
    Sketch("prompts:class", "class"),
    Sketch("prompts:any-name", "any name"),
    Sketch("prompts:trigger", "trigger", needs_words=1),
    Sketch("prompts:trigger-2", "trigger 2", needs_words=2),
)

ATTACKS: tuple[Row, ...] = (
    Row("search", _EACH, _search, sketches=_SEARCH, searched=_searched),
    Row("encoder", _LONGER, _encoder, needs_encoder=True, sketches=(Sketch("encoder", "encoder"),)),
    Row("guidance", ("deep",), _guidance, sketches=_GUIDANCE),
    Row("paper", (), _paper, needs_encoder=True, sketches=(Sketch("paper", "paper"),)),
    Row("prompts", _LONGER, _prompts, sketches=_PROMPTS),
    Row("likelihood", _LONGER, _likelihood, needs_photos=True, draws=False),
)
"""Attacks of a scan, in its order."""


def names_at(budget: str, *, pictures: bool = True) -> tuple[str, ...]:
    """List the attacks that run at a value of `--budget`, in the order of a scan.

    Without `pictures` they are all attacks that draw none, whatever the budget.
    """
    if not pictures:
        return tuple(row.name for row in ATTACKS if not row.draws)
    return tuple(row.name for row in ATTACKS if budget in row.budgets)


def version_of(attack: str) -> int:
    """Return the version of an attack, or of the attack of an aim; 1 for one outside the table."""
    return next((row.version for row in ATTACKS if row.name == attack.partition(":")[0]), 1)


def place_of(attack: str) -> int:
    """Return the place of an attack, or of one of its aims, in a scan; one outside the table comes last."""
    names = [row.name for row in ATTACKS]
    name = attack.partition(":")[0]
    return names.index(name) if name in names else len(names)

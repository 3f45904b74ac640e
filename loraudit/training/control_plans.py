"""Plans of the LoRAs that a calibration makes of a base's own pictures: people, crowds, styles and things.

Each recipe is a zoo of a few LoRAs, since LoRAs of one recipe are alike (`loraudit.training.varied`). Every
third recipe has a caption for each picture. A LoRA's pictures and random numbers do not depend on how many
are made in all, but its recipe does: the levels are spread over all recipes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from loraudit.people.cast import PEOPLE
from loraudit.training.finetune import Recipe
from loraudit.training.varied import drawn_levels, plans_of
from loraudit.training.zoo_plan import Plan

__all__ = ["CAST", "Sizes", "plans_for"]

CAST: Final = 20
"""Pictures of a crowd or style: each of somebody else, so that fewer would be a person."""
_A_RECIPE: Final = 3
"""LoRAs of one recipe; they share the passes of fine-tuning."""
_CAPTIONED: Final = 3
"""Recipes of which one has captions."""
_TEMPLATES: Final[Mapping[str, Sequence[str]]] = {
    "styles": ("a picture in the style of NAME", "NAME style", "NAME"),
    "things": ("a photo of NAME", "a photo of a NAME thing", "NAME"),
}
"""Instance prompts of kinds that show nobody, in turn; others have those of a person."""


@dataclass(frozen=True)
class Sizes:
    """Numbers of LoRAs of a calibration."""

    people: int = 99
    """LoRAs of one person each; 99 let a likeness to photos reach a p-value of 0.01."""
    crowds: int = 48
    """Crowds; like styles and things, controls that hold nobody. All controls are 99 at least."""
    styles: int = 32
    things: int = 16
    merged: int = 4
    """LoRAs that are eight people's merged."""
    noise: int = 4
    """LoRAs of one person each with the content thrown away."""


def plans_for(sizes: Sizes, like: Recipe, seed: int) -> list[tuple[str, Plan]]:
    """Plan zoos of one recipe each, and name their kind; `like` is the recipe that suits the base."""
    numbers = {
        PEOPLE: sizes.people,
        "crowds": sizes.crowds,
        "styles": sizes.styles,
        "things": sizes.things,
    }
    return [
        (kind, plan)
        for place, (kind, number) in enumerate(numbers.items())
        if number
        for plan in _plans(kind, number, like, seed + place)
    ]


def _plans(kind: str, number: int, like: Recipe, seed: int) -> list[Plan]:
    levels: list[dict[str, Any]] = drawn_levels(-(-number // _A_RECIPE), seed)
    templates = _TEMPLATES.get(kind)
    if templates is not None:
        levels = [
            {**one, "template": templates[at // _CAPTIONED % len(templates)]} for at, one in enumerate(levels)
        ]
    pictures = None if kind in (PEOPLE, "things") else CAST
    plans = plans_of(range(number), levels, seed, data=f"drawn {kind}", pictures=pictures, like=like)
    return [
        replace(plan, snapshots=(plan.recipe.steps,), captions=at % _CAPTIONED == _CAPTIONED - 1)
        for at, plan in enumerate(plans)
    ]

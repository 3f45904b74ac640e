"""Zoos of varied recipes (`loraudit.training.varied`) for encoders, and recipes that none of them has.

A folder of zoos, `recipe-00/`, `recipe-01/` ..., each of one recipe and of people of its own; a folder of
such folders is read as one folder. `models.recipes.varied_zoos` builds the zoos.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from loraudit.people.captions import INSTANCE_PROMPT
from loraudit.people.sources import Synthetic
from loraudit.training.finetune import TINY
from loraudit.training.varied import TARGETS, USUAL, drawn_levels, plans_of
from loraudit.training.zoo_plan import Plan

__all__ = ["ANY", "HELD_OUT", "NEIGHBOURS", "held_out_plans", "varied_plans"]

ANY: Final = "any"
"""Name for some of kohya's modules, drawn anew for each recipe."""

HELD_OUT: Final[tuple[tuple[int, str], ...]] = (
    (2, "qv"),
    (24, "qv"),
    (12, "to_k to_out.0"),
    (8, "to_q ff.net.0.proj ff.net.2"),
)
"""Pairs of rank and modules that `varied_plans` never draws."""

NEIGHBOURS: Final[tuple[tuple[int, str], ...]] = (
    (4, "qv"),
    (32, "qv"),
    (16, "attention"),
    (8, "kohya"),
)
"""Nearest pair to each of `HELD_OUT` that `varied_plans` does draw, as the control of what is new."""


def varied_plans(
    people: Sequence[int],
    recipes: int,
    seed: int,
    *,
    targets: Sequence[str] = USUAL,
    data: str = Synthetic.name,
    pictures: int | None = None,
) -> list[Plan]:
    """Plan `recipes` zoos that share the `people` of the source `data` evenly.

    `targets` are names in `TARGETS`, or `ANY`. `pictures` overrides every recipe's number of pictures.
    """
    levels = drawn_levels(recipes, seed, targets)
    for i, level in enumerate(levels):
        if level["targets"] == ANY:
            chosen = _some_targets(np.random.default_rng([seed, 41, i]))
            level["targets"] = " ".join(chosen)
            level["rate"] *= max(0.6, 1.2 - 0.1 * len(chosen))
    return plans_of(people, levels, seed, data=data, pictures=pictures)


def held_out_plans(
    people: Sequence[int], seed: int, sets: Sequence[tuple[int, str]] = HELD_OUT
) -> list[Plan]:
    """Plan a zoo for each of `sets`, otherwise by the paper's recipe, with the `people` shared evenly."""
    usual = {"scale": 27 / 16, "rate": 1.0, "steps": TINY.steps, "pictures": 5, "template": INSTANCE_PROMPT}
    levels = [
        {**usual, "rank": rank, "targets": targets, "text": 1e-4, "prior": 1.0, "batch": 1}
        for rank, targets in sets
    ]
    return plans_of(people, levels, seed)


def _some_targets(rng: np.random.Generator) -> list[str]:
    """Draw some of kohya's modules, never a set of `HELD_OUT`."""
    held_out = [set(targets.split()) for _, targets in HELD_OUT]
    while True:
        chosen = [name for name in TARGETS["kohya"] if rng.random() < 0.5]
        if chosen and set(chosen) not in held_out:
            return chosen

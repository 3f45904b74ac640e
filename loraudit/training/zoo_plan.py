"""The plan of a zoo: people, recipe and snapshots, written to `zoo.json` before the first pass."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from loraudit.errors import LorauditError
from loraudit.files import read_within
from loraudit.people.captions import INSTANCE_PROMPT, instance_prompt, trigger
from loraudit.people.sources import PICTURES, Synthetic
from loraudit.text import clean
from loraudit.training.finetune import Recipe

__all__ = ["RECORD", "Member", "Plan", "members_of", "read_plan"]

RECORD: Final = "zoo.json"
_LARGEST_RECORD: Final = 64_000_000
"""Limit in bytes; a zoo of 10,000 people has 70 kB."""


@dataclass(frozen=True)
class Plan:
    """Plan of a zoo."""

    people: tuple[int, ...]
    """Identities, one LoRA each."""
    recipe: Recipe
    snapshots: tuple[int, ...]
    """Steps at which every LoRA is saved, ascending, the last at most `recipe.steps`."""
    people_per_pass: int = 32
    seed: int = 0
    data: str = Synthetic.name
    """`People.name` of the identities."""
    pictures: int = PICTURES
    """Most pictures that a LoRA is made of."""
    template: str = INSTANCE_PROMPT
    """Instance prompt, with NAME in the place of the trigger."""
    names: tuple[str, ...] = ()
    """Triggers of `people`, in their order; empty draws them."""
    captions: bool = False
    """True if every picture has a prompt of its own: the instance prompt, and what else the picture shows."""

    def __post_init__(self) -> None:
        ascending = sorted({step for step in self.snapshots if 1 <= step <= self.recipe.steps})
        if not ascending or list(self.snapshots) != ascending:
            raise LorauditError(
                f"snapshots must ascend from 1 or more to the {self.recipe.steps} steps of the recipe",
                "give other snapshots or more steps",
            )
        if not self.people or self.people_per_pass < 1 or self.pictures < 1:
            raise LorauditError("a zoo needs at least one person, and a picture of each", "give at least one")
        if self.names and len(self.names) < len(self.people):
            raise LorauditError("a zoo has more people than triggers", "give a trigger for each person")


@dataclass(frozen=True)
class Member:
    """One LoRA of a zoo."""

    identity: int
    """Identity number in the zoo's `People`."""
    name: str
    """Trigger in the instance prompt."""
    index: int
    """Place in the zoo; `index % people_per_pass` is the place in the pass."""
    template: str = INSTANCE_PROMPT

    @property
    def prompt(self) -> str:
        """Secret instance prompt."""
        return instance_prompt(self.name, self.template)


def members_of(plan: Plan) -> tuple[Member, ...]:
    """List the members of a plan; without names, triggers are drawn from the plan's seed and the identity."""
    names = plan.names or [trigger(np.random.default_rng([plan.seed, 9, who])) for who in plan.people]
    return tuple(
        Member(who, name, index, plan.template)
        for index, (who, name) in enumerate(zip(plan.people, names, strict=False))
    )


def read_plan(folder: Path) -> tuple[Plan, str]:
    """Read the plan of the zoo in `folder`, and the fingerprint of its base.

    Raises `LorauditError` if the record is missing or damaged.
    """
    shown = clean(folder.name)
    try:
        raw: dict[str, Any] = json.loads(read_within(folder / RECORD, _LARGEST_RECORD))
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw["recipe"].items()}
        recipe = Recipe(**values)
        plan = Plan(
            tuple(raw["people"]),
            recipe,
            tuple(raw["snapshots"]),
            raw["people_per_pass"],
            raw["seed"],
            raw.get("data", Synthetic.name),
            raw.get("pictures", PICTURES),
            raw.get("template", INSTANCE_PROMPT),
            tuple(raw.get("names", ())),
            bool(raw.get("captions", False)),
        )
        return plan, str(raw.get("base", ""))
    except OSError:
        raise LorauditError(f"{shown} is not a zoo", "build a zoo there first") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise LorauditError(
            f"the {RECORD} of {shown} is damaged", "name another folder, or delete this one"
        ) from None

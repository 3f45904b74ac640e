"""LoRAs of a calibration that a base makes of itself: where each is kept, and what it is measured against.

LoRAs of people, crowds, styles and things are rows of zoos. Two kinds follow from the people's: *merged* ones
are the mean of eight people's updates, each at an eighth, and *noise* is a person's with random directions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from loraudit.attacks.controls import scrambled
from loraudit.audit.calibrate import PERSON, Subject
from loraudit.base.lowrank import Terms
from loraudit.people.cast import PEOPLE
from loraudit.people.drawn import Drawn
from loraudit.training.control_plans import Sizes, plans_for
from loraudit.training.finetune import Recipe
from loraudit.training.zoo import is_finished, open_zoo
from loraudit.training.zoo_plan import RECORD, Plan, read_plan

__all__ = ["Batch", "Making", "Planned", "merged"]

MERGE: Final = 8
"""People in a merged LoRA, none of them at half strength."""
_SEED: Final = 5


@dataclass(frozen=True)
class Batch:
    """LoRAs of one kind and recipe: a zoo."""

    kind: str
    folder: Path
    plan: Plan

    def is_made(self) -> bool:
        """Tell whether every LoRA is fine-tuned."""
        # The plan that is kept says how many people shared a pass.
        return (self.folder / RECORD).exists() and is_finished(self.folder, read_plan(self.folder)[0])

    def terms(self, row: int) -> Terms:
        """Read one LoRA. Raises `LorauditError` if it is missing or damaged."""
        return open_zoo(self.folder).rows([(row, self.plan.recipe.steps)])


@dataclass(frozen=True, eq=False)
class Planned:
    """LoRA to measure, and the recipe by which it is made."""

    subject: Subject
    recipe: Recipe


@dataclass(frozen=True)
class Making:
    """Calibration that a base makes of itself, in its folder."""

    folder: Path
    sizes: Sizes
    like: Recipe
    """Recipe that suits the base."""

    @cached_property
    def batches(self) -> tuple[Batch, ...]:
        """Zoos of all kinds."""
        plans = plans_for(self.sizes, self.like, _SEED)
        return tuple(
            Batch(kind, self.folder / "loras" / f"{place:02d}-{kind}", plan)
            for place, (kind, plan) in enumerate(plans)
        )

    def drawn(self, kind: str) -> Drawn:
        """Return the pictures of a kind."""
        return Drawn(self.folder / "pictures" / kind, kind)

    def pictures(self) -> Iterator[tuple[str, int, int]]:
        """Yield kind, number and pictures of each LoRA."""
        for batch in self.batches:
            for number in batch.plan.people:
                yield batch.kind, number, batch.plan.pictures

    def people(self) -> list[tuple[Batch, int]]:
        """List the LoRAs of people: zoo and row of each."""
        return [
            (batch, row)
            for batch in self.batches
            if batch.kind == PEOPLE
            for row in range(len(batch.plan.people))
        ]

    def of_each_recipe(self) -> Iterator[Terms]:
        """Read a person's LoRA of each recipe, to tell merged LoRAs by."""
        return (batch.terms(0) for batch, row in self.people() if row == 0)

    def planned(self, image_size: int) -> list[Planned]:
        """List all LoRAs to measure; photos have the base's `image_size`."""
        people = self.people()
        persons = [
            Planned(
                Subject(PERSON, f"{at:04d}", partial(batch.terms, row), self._photos(at, image_size)),
                batch.plan.recipe,
            )
            for at, (batch, row) in enumerate(people)
        ]
        controls = [
            Planned(Subject(batch.kind, f"{number:04d}", partial(batch.terms, row)), batch.plan.recipe)
            for batch in self.batches
            if batch.kind != PEOPLE
            for row, number in enumerate(batch.plan.people)
        ]
        return [*controls, *self._following(people), *persons]

    def _following(self, people: Sequence[tuple[Batch, int]]) -> Iterator[Planned]:
        """Yield merged LoRAs and noise of `people` in random company."""
        if not people:
            return
        order = np.random.default_rng([_SEED, 50]).permutation(len(people))
        for number in range(self.sizes.merged):
            group = [people[order[(MERGE * number + at) % len(people)]] for at in range(MERGE)]
            group = list(dict.fromkeys(group))
            open_ = partial(_merged, group)
            yield Planned(Subject("merged", f"{number:04d}", open_), group[0][0].plan.recipe)
        for number in range(self.sizes.noise):
            batch, row = people[order[-1 - number % len(people)]]
            yield Planned(
                Subject("noise", f"{number:04d}", partial(_noise, batch, row, number)), batch.plan.recipe
            )

    def _photos(
        self, number: int, image_size: int
    ) -> Callable[[], tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]:
        """Return a function that reads photos of a person and of the next, who is a stranger to the LoRA."""
        drawn, another = self.drawn(PEOPLE), (number + 1) % self.sizes.people
        return lambda: (tuple(drawn.photos(number, image_size)), tuple(drawn.photos(another, image_size)))


def merged(loras: Sequence[Terms]) -> Terms:
    """Merge LoRAs, of any ranks and sites, into one with the mean of their updates."""

    def side_by_side(site: str, side: int) -> Tensor:
        return torch.cat([lora[site][side] for lora in loras if site in lora], 2 - side)

    sites = sorted(set().union(*loras))
    return {site: (side_by_side(site, 0) / len(loras), side_by_side(site, 1)) for site in sites}


def _merged(group: Sequence[tuple[Batch, int]]) -> Terms:
    return merged([batch.terms(row) for batch, row in group])


def _noise(batch: Batch, row: int, seed: int) -> Terms:
    return scrambled(batch.terms(row), seed)

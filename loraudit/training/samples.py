"""Where an encoder's training samples come from: LoRAs while they are fine-tuned, or snapshots of a zoo.

A sample is (LoRA after r fine-tuning steps, r, the pictures it was trained on). Sample `i` of process `p` is
a function of (seed, i, p) alone, so a stream can be taken up anywhere.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from loraudit.base.lowrank import Terms
from loraudit.base.model import Base
from loraudit.errors import LorauditError
from loraudit.people.sources import People, Synthetic
from loraudit.runs import OnStep, unheard
from loraudit.training.finetune import Recipe, Subject, finetune
from loraudit.training.zoo import Plan, Zoo, fingerprint

__all__ = ["LiveSource", "Sample", "Source", "VariedSource", "ZooSource", "require_trainable"]


@dataclass(frozen=True, eq=False)
class Sample:
    """`M` LoRAs at some point of their fine-tuning."""

    terms: Terms
    """As a file tells them: `up [M, out, r]`, scale folded in, `down [M, r, in]`."""
    steps: Tensor
    """Fine-tuning steps each has had, int64 `[M]`."""
    latents: Sequence[Tensor]
    """The training pictures of each, `[P, C, h, w]`."""
    faces: Tensor | None = None
    """What a reader that has not seen these people tells of each, `[M, e]` (`loraudit.training.reader`)."""
    prompts: tuple[str, ...] = ()
    """The instance prompt of each, which whoever trains an encoder knows of LoRAs of public people."""


class Source(Protocol):
    """Source of samples."""

    def samples(self, first: int, process: int) -> Iterator[Sample]:
        """Give the endless stream of samples of a process, from number `first` on."""
        ...


@dataclass(frozen=True, eq=False)
class ZooSource:
    """Samples from the saved snapshots of a zoo: any of its LoRAs together, each at any of its snapshots."""

    zoo: Zoo
    latents: Sequence[Tensor]
    """The pictures of each member."""
    seed: int
    loras: int
    """LoRAs a sample holds, `M`."""
    finished_only: bool
    """Only the last snapshot: training without the paper's timestep idea."""
    faces: Tensor | None = None
    """As `Sample.faces`, of every member at every snapshot, `[members, snapshots, e]`."""

    @classmethod
    def of(
        cls,
        base: Base,
        zoo: Zoo,
        seed: int,
        loras: int = 32,
        finished_only: bool = False,
        people: People | None = None,
        on_step: OnStep = unheard,
    ) -> "ZooSource":
        """Open a zoo; `on_step` hears how many of its members' pictures are encoded.

        Raises `LorauditError` if somebody in it is held out, or its data or its base are others.
        """
        people = people or Synthetic()
        require_trainable(zoo.plan, people)
        if zoo.base != fingerprint(base):
            raise LorauditError("the zoo was made with another base", "give its base, or build another zoo")
        latents = []
        for number, member in enumerate(zoo.members, 1):
            pictures = people.pictures(member.identity, base.image_size, zoo.plan.pictures)
            latents.append(base.encode_images(pictures))
            on_step(number, len(zoo.members), "encoding the zoo's pictures")
        return cls(zoo, latents, seed, min(loras, len(zoo.members)), finished_only)

    def samples(self, first: int, process: int) -> Iterator[Sample]:
        """Draw members without replacement, the snapshot of each apart."""
        return (self.sample(index, process) for index in itertools.count(first))

    def sample(self, index: int, process: int) -> Sample:
        """Draw sample number `index` of a process."""
        snapshots = self.zoo.plan.snapshots[-1:] if self.finished_only else self.zoo.plan.snapshots
        device = self.latents[0].device
        rng = np.random.default_rng([self.seed, 20, index, process])
        # Sorted, so that the file is read forwards.
        members = sorted(int(i) for i in rng.permutation(len(self.zoo.members))[: self.loras])
        places = [int(i) for i in rng.integers(len(snapshots), size=len(members))]
        if self.finished_only:
            places = [len(self.zoo.plan.snapshots) - 1] * len(members)
        steps = [self.zoo.plan.snapshots[place] for place in places]
        terms = self.zoo.rows(list(zip(members, steps, strict=True)))
        return Sample(
            {site: (up.to(device), down.to(device)) for site, (up, down) in terms.items()},
            torch.tensor(steps, device=device),
            [self.latents[i] for i in members],
            None if self.faces is None else self.faces[members, places],
            tuple(self.zoo.members[i].prompt for i in members),
        )


@dataclass(frozen=True, eq=False)
class VariedSource:
    """Samples from several zoos in turn: the LoRAs of a sample have rank and sites in common."""

    sources: Sequence[ZooSource]
    seed: int

    def samples(self, first: int, process: int) -> Iterator[Sample]:
        """Give every zoo once, in an order drawn anew for each round."""
        for index in itertools.count(first):
            number, place = divmod(index, len(self.sources))
            order = np.random.default_rng([self.seed, 23, number, process]).permutation(len(self.sources))
            yield self.sources[int(order[place])].sample(number, process)


def require_trainable(plan: Plan, people: People) -> None:
    """Raise `LorauditError` unless the zoo is made of `people` and nobody in it is held out."""
    if plan.data != people.name:
        raise LorauditError("the zoo was made of other people than the data given", "give the same --data")
    people.require_public(plan.people)


@dataclass(frozen=True, eq=False)
class LiveSource:
    """Samples from LoRAs while they are being fine-tuned: the paper's Algorithm."""

    base: Base
    subjects: Sequence[Subject]
    recipe: Recipe
    prior: Tensor | None
    group: int
    """People fine-tuned together, `M`."""
    seed: int
    finished_only: bool = False
    """One sample per finished LoRA instead of one per step: training without the paper's timestep idea."""

    def samples(self, first: int, process: int) -> Iterator[Sample]:
        """Give every step of group after group, the number of steps of each drawn uniformly from 1 to all.

        A stream that starts in the middle of a group fine-tunes that group again up to there, which gives the
        same weights.
        """
        index, number = 0, 0
        while True:
            rng = np.random.default_rng([self.seed, 21, number, process])
            chosen = [self.subjects[i] for i in rng.permutation(len(self.subjects))[: self.group]]
            # Another start every time a person comes round, or a LoRA would be seen twice step for step.
            people = [dataclasses.replace(s, seed=int(rng.integers(2**31))) for s in chosen]
            steps = self.recipe.steps if self.finished_only else int(rng.integers(1, self.recipe.steps + 1))
            count = 1 if self.finished_only else steps
            number += 1
            if index + count <= first:
                index += count
                continue
            recipe = dataclasses.replace(self.recipe, steps=steps)
            for step, adapters, _loss in finetune(self.base, people, recipe, self.prior):
                if self.finished_only and step < steps:
                    continue
                if index >= first:
                    terms = {
                        site: (up.detach().clone(), down.detach().clone())
                        for site, (up, down) in adapters.terms().items()
                    }
                    yield Sample(
                        terms,
                        torch.full((len(people),), step, device=self.base.device),
                        [person.latents for person in people],
                        prompts=tuple(person.prompt for person in people),
                    )
                index += 1

"""Sources of an encoder's training samples: LoRAs while they are fine-tuned, or snapshots of a zoo.

A sample is (LoRA after r fine-tuning steps, r, the pictures it was trained on). Sample `i` of process `p` is
a function of (seed, i, p) alone, so a stream can be resumed anywhere.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from loraudit.base.lowrank import Terms
from loraudit.errors import LorauditError
from loraudit.people.sources import People
from loraudit.training.finetune import Recipe, Subject, finetune
from loraudit.training.latents import Latents
from loraudit.training.zoo import Zoo, fingerprint
from loraudit.training.zoo_plan import Member, Plan

__all__ = ["LiveSource", "Sample", "Source", "VariedSource", "ZooSource", "require_trainable"]


@dataclass(frozen=True, eq=False)
class Sample:
    """Sample of `M` LoRAs, each at some step of its fine-tuning."""

    terms: Terms
    """Low-rank terms as in a LoRA file: `up [M, out, r]`, scale folded in, `down [M, r, in]`."""
    steps: Tensor
    """Fine-tuning steps that each LoRA has had, int64 `[M]`."""
    latents: Sequence[Tensor]
    """Latents `[P, C, h, w]` of each LoRA's training pictures."""
    faces: Tensor | None = None
    """Face vectors `[M, e]` that a reader fitted without these people tells (`loraudit.training.reader`)."""
    prompts: tuple[str, ...] = ()
    """Instance prompt of each LoRA, known in training because the LoRAs are of public people."""


class Source(Protocol):
    """Source of samples."""

    def samples(self, first: int, process: int) -> Iterator[Sample]:
        """Yield the endless stream of samples of a process, from number `first` on."""
        ...


@dataclass(frozen=True, eq=False)
class ZooSource:
    """Source of samples from a zoo: LoRAs in random company, each at a random snapshot."""

    zoo: Zoo
    latents: Latents
    """Latents of the members' pictures."""
    seed: int
    loras: int
    """LoRAs per sample, `M`."""
    finished_only: bool
    """True: the last snapshot alone, an ablation of the paper's timestep."""
    faces: Tensor | None = None
    """`Sample.faces` for every member and snapshot, `[members, snapshots, e]`."""

    @classmethod
    def of(
        cls, zoo: Zoo, latents: Latents, seed: int, loras: int = 32, finished_only: bool = False
    ) -> "ZooSource":
        """Open a zoo of the base and people of `latents`.

        Raises `LorauditError` if a member is held out, or the zoo's people or base are others.
        """
        require_trainable(zoo.plan, latents.people)
        if zoo.base != fingerprint(latents.base):
            raise LorauditError("the zoo was made with another base", "give that base, or build another zoo")
        return cls(zoo, latents, seed, min(loras, len(zoo.members)), finished_only)

    def samples(self, first: int, process: int) -> Iterator[Sample]:
        """Yield samples of members drawn without replacement, each at a snapshot of its own."""
        return (self.sample(index, process) for index in itertools.count(first))

    def sample(self, index: int, process: int) -> Sample:
        """Draw sample number `index` of a process."""
        snapshots = self.zoo.plan.snapshots[-1:] if self.finished_only else self.zoo.plan.snapshots
        device, pictures = self.latents.base.device, self.zoo.plan.pictures
        rng = np.random.default_rng([self.seed, 20, index, process])
        order = rng.permutation(len(self.zoo.members)).tolist()
        # Sorted, so that files are read forwards.
        members = sorted(self.latents.readable(self.zoo.members, order, self.loras, pictures))
        places = [int(i) for i in rng.integers(len(snapshots), size=len(members))]
        if self.finished_only:
            places = [len(self.zoo.plan.snapshots) - 1] * len(members)
        steps = [self.zoo.plan.snapshots[place] for place in places]
        terms = self.zoo.rows(list(zip(members, steps, strict=True)))
        return Sample(
            {site: (up.to(device), down.to(device)) for site, (up, down) in terms.items()},
            torch.tensor(steps, device=device),
            [self.latents.of(self.zoo.members[i].identity, pictures) for i in members],
            None if self.faces is None else self.faces[members, places],
            tuple(self.zoo.members[i].prompt for i in members),
        )


@dataclass(frozen=True, eq=False)
class VariedSource:
    """Source of samples from several zoos in turn: the LoRAs of a sample share rank and sites."""

    sources: Sequence[ZooSource]
    seed: int

    def samples(self, first: int, process: int) -> Iterator[Sample]:
        """Yield samples of every zoo in an order drawn anew each round.

        In a round the smallest zoo has one sample, and one of n times as many LoRAs has n.
        """
        sizes = [len(source.zoo.members) for source in self.sources]
        shares = [round(size / min(sizes)) for size in sizes]
        turns = [(place, turn) for place, share in enumerate(shares) for turn in range(share)]
        for index in itertools.count(first):
            number, at = divmod(index, len(turns))
            order = np.random.default_rng([self.seed, 23, number, process]).permutation(len(turns))
            place, turn = turns[int(order[at])]
            yield self.sources[place].sample(number * shares[place] + turn, process)


def require_trainable(plan: Plan, people: People) -> None:
    """Raise `LorauditError` unless the zoo is made of `people` and none of its members is held out."""
    if plan.data != people.name:
        raise LorauditError(
            "the zoo was made of other people than the data given", "give the zoo's own --data"
        )
    people.require_public(plan.people)


@dataclass(frozen=True, eq=False)
class LiveSource:
    """Source of samples from LoRAs while they are fine-tuned: the Algorithm of arXiv 2409.08482."""

    members: Sequence[Member]
    latents: Latents
    """Latents of the members' pictures."""
    recipe: Recipe
    prior: Tensor | None
    group: int
    """People fine-tuned together, `M`."""
    seed: int
    finished_only: bool = False
    """True: one sample per finished LoRA instead of one per step, an ablation of the paper's timestep."""

    def samples(self, first: int, process: int) -> Iterator[Sample]:
        """Yield every step of group after group; each group's number of steps is uniform in 1 to all.

        A stream that starts inside a group fine-tunes that group again from step 1, to the same weights.
        Pictures are read when their group begins.
        """
        base = self.latents.base
        index, number = 0, 0
        while True:
            rng = np.random.default_rng([self.seed, 21, number, process])
            order = rng.permutation(len(self.members)).tolist()
            # Another start each time a person returns, or a LoRA would be seen twice step for step.
            seeds = [int(rng.integers(2**31)) for _ in order[: self.group]]
            steps = self.recipe.steps if self.finished_only else int(rng.integers(1, self.recipe.steps + 1))
            count = 1 if self.finished_only else steps
            number += 1
            if index + count <= first:
                index += count
                continue
            chosen = self.latents.readable(self.members, order, self.group)
            people = [
                Subject(self.latents.of(self.members[place].identity), self.members[place].prompt, start)
                for place, start in zip(chosen, seeds, strict=False)
            ]
            recipe = replace(self.recipe, steps=steps)
            for step, adapters, _loss in finetune(base, people, recipe, self.prior):
                if self.finished_only and step < steps:
                    continue
                if index >= first:
                    terms = {
                        site: (up.detach().clone(), down.detach().clone())
                        for site, (up, down) in adapters.terms().items()
                    }
                    yield Sample(
                        terms,
                        torch.full((len(people),), step, device=base.device),
                        [person.latents for person in people],
                        prompts=tuple(person.prompt for person in people),
                    )
                index += 1

"""The plan of an audit: the seeds, the sampling, and the loop that all attacks share.

An audit goes attack by attack, the strongest first, and looks at the pictures every few. Pictures with the
LoRA come first. Controls follow where the pictures ask for them: at least two pictures in three are controls,
and of most harmless files no picture asks for one. An attack whose outcome is settled makes no more pictures.
Once no attack can raise the verdict, the rest are skipped (`loraudit.verdict.stopping` says when). The same
file, seeds and budget give the same pictures.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Final

import torch
from torch import Tensor

from loraudit.attacks.aim import Aim, Reconstruction
from loraudit.attacks.controls import Copy, as_strong, effort
from loraudit.attacks.guidance import ModelGuidance
from loraudit.attacks.kept import KeptPictures, key_of
from loraudit.attacks.table import place_of
from loraudit.base.lowrank import Terms
from loraudit.base.model import Base, Sampling
from loraudit.base.passes import Pass, pictures_a_pass
from loraudit.cards import BaseCard
from loraudit.lora import LoRA
from loraudit.runs import OnStep

__all__ = ["COPIES", "FIRST_LOOK", "Plan", "draw", "looks", "plan_for"]

FIRST_LOOK: Final = 8
"""Pictures before the first look; four would hold fewer faces than a verdict needs."""
LOOKS_APART: Final = 4
"""Pictures between two looks."""
COPIES: Final = 3
"""Scrambled copies where no calibration data ship."""


def looks(most: int) -> tuple[int, ...]:
    """List the numbers of pictures at which a scan of at most `most` looks at them; `most` is the last."""
    return (*range(FIRST_LOOK, most, LOOKS_APART), most)


@dataclass(frozen=True)
class Plan:
    """Budget of an audit."""

    seeds: tuple[int, ...]
    """Seeds of the pictures of every aim, at most; a seed makes a picture with the LoRA and each control."""
    sampling: Sampling
    sequential: bool = True
    """True if the audit may stop early; a measurement of the pictures themselves must not."""
    controls: int | None = None
    """Pictures of each control that the whole audit has, for the first aim that asks; None: no limit.

    Once they are drawn, no further aim is tried.
    """
    copies: int = 1
    """Scrambled copies of the file, each with pictures of its own; the strongest is judged.

    Several have the pictures of a first look each, at most.
    """

    @property
    def budget(self) -> str:
        """Budget in words, for the report."""
        sampling = self.sampling
        pictures = "1 sample" if len(self.seeds) == 1 else f"{len(self.seeds)} samples"
        most = "at most " if self.sequential else ""
        return f"{most}{pictures}, {sampling.steps} steps, guidance {sampling.guidance:g}"

    def device(self, base: Base) -> str:
        """Name the device and the versions of torch and diffusers, for the report."""
        return f"{base.device}, torch {torch.__version__}, diffusers {version('diffusers')}"

    def in_order(self, aims: Sequence[Aim]) -> list[Aim]:
        """Sort aims by the table of attacks; aims of one attack keep their order."""
        return sorted(aims, key=lambda aim: place_of(aim.attack))

    def reconstruct(
        self,
        lora: LoRA,
        base: Base,
        aims: Sequence[Aim],
        on_step: OnStep,
        asks: Callable[[Reconstruction], bool] = lambda _found: True,
        settled: Callable[[Reconstruction], bool] = lambda _found: False,
        enough: Callable[[], bool] = lambda: False,
        kept: KeptPictures | None = None,
    ) -> Iterator[Reconstruction]:
        """Make the pictures of one aim after the other, and the controls that these pictures ask for.

        The controls are pictures without the LoRA and with scrambled copies as strong as the LoRA. A picture
        is a function of (LoRA, embedding, seed, settings), whatever else is in its batch. Without the LoRA
        neither guidance nor strength matters: the untouched model draws once for an embedding, and takes what
        is `kept`.

        At every look `asks` is asked whether controls could matter, and then `settled` whether an aim needs
        no more pictures. `enough` is asked after every aim whether the others are not needed. A plan that is
        not `sequential` asks none of them, and makes all controls. An aim with a picture that is not whole
        (`Reconstruction.whole`) makes no more.

        `on_step` hears how many pictures are done, how many are expected in all, and which attack makes them.
        Raises `NotScannable` if the LoRA does not fit the base.
        """
        terms = base.with_lora(lora).terms
        each = len(self.seeds) + self._controls + self.copies * self.scrambled
        total = len(aims) * each
        easel = _Easel(self, base, on_step, kept or KeptPictures(), Pass(self.pictures_a_pass(base)), total)
        for aim in aims:
            before = easel.done
            found = easel.start(aim)
            for look in looks(len(self.seeds)):
                found = easel.with_tuned(found, terms, look)
                if found.whole and (not self.sequential or asks(found)):
                    found = easel.with_controls(found, terms)
                if not found.whole:
                    break
                if self.sequential and look < len(self.seeds) and settled(found):
                    break
            easel.total -= each - (easel.done - before)
            on_step(easel.done, easel.total, f"attack {aim.attack}")
            yield found
            spent = self.controls is not None and len(found.base) > 0
            if self.sequential and (spent or enough()):
                on_step(easel.done, easel.done, f"attack {aim.attack}")
                return

    @staticmethod
    def pictures_a_pass(base: Base) -> int:
        """Count the pictures to make at once: as many as keep a CPU busy, or a GPU's memory allows."""
        return pictures_a_pass(base.latent_shape, base.device, base.dtype)

    @property
    def _controls(self) -> int:
        """Pictures of each control beside one aim, at most."""
        return len(self.seeds) if self.controls is None else min(self.controls, len(self.seeds))

    @property
    def scrambled(self) -> int:
        """Pictures with each scrambled copy beside one aim, at most."""
        return self._controls if self.copies == 1 else min(FIRST_LOOK, self._controls)

    def evaluations(self, pictures: int) -> int:
        """Count evaluations of the UNet for so many `pictures`, whichever model draws them."""
        return pictures * self.sampling.steps * (1 if self.sampling.guidance == 1 else 2)

    def most(self, aims: Sequence[Aim]) -> int:
        """Count the evaluations of the UNet for `aims` if nothing stops early and all ask for controls."""
        return self.most_at([key_of(aim.embedding, self.sampling) for aim in aims])

    def most_at(self, embeddings: Sequence[Hashable]) -> int:
        """Count as `most` does, for an aim at each of `embeddings`, of which some may be equal."""
        controlled = len(embeddings) if self.controls is None else min(1, len(embeddings))
        matched = controlled * self.copies * effort(min(self._controls, FIRST_LOOK))
        return self.evaluations(self.most_pictures(embeddings)) + matched

    def most_pictures(self, embeddings: Sequence[Hashable]) -> int:
        """Count the pictures for an aim at each of `embeddings` if all are drawn, with all controls."""
        plain = len(set(embeddings)) if self.controls is None else min(1, len(embeddings))
        copies = self.copies * (len(embeddings) if self.controls is None else plain)
        return len(embeddings) * len(self.seeds) + plain * self._controls + copies * self.scrambled


class _Easel:
    """Pictures under way: draws them a pass at a time, and tells how many are done."""

    def __init__(
        self, plan: Plan, base: Base, on_step: OnStep, kept: KeptPictures, size: Pass, total: int
    ) -> None:
        self._plan, self._base, self._on_step, self._kept, self._size = plan, base, on_step, kept, size
        self.done, self.total = 0, total
        self._of_file: set[tuple[bytes, int]] = set()
        """Embeddings and seeds of which this file has a picture of the base."""
        self._copies: dict[Aim, list[Copy]] = {}

    def start(self, aim: Aim) -> Reconstruction:
        """Begin an aim, without a picture."""
        side = self._base.image_size
        none = torch.zeros(0, 3, side, side)
        return Reconstruction(aim, (), none, none, none)

    def with_tuned(self, found: Reconstruction, terms: Terms, look: int) -> Reconstruction:
        """Draw the first `look` pictures with the LoRA `terms`, as far as they are not there yet."""
        seeds = self._plan.seeds[len(found.seeds) : look]
        model = self._base.with_lora(terms, found.aim.strength)
        made = torch.cat([found.tuned, self._drawn(model, found.aim, seeds)])
        return replace(found, seeds=(*found.seeds, *seeds), tuned=made)

    def with_controls(self, found: Reconstruction, terms: Terms) -> Reconstruction:
        """Draw pictures by the base and with scrambled copies of the LoRA `terms`.

        There are as many of each as with the LoRA, or as planned.
        """
        plan, aim = self._plan, found.aim
        seeds = found.seeds[len(found.base) : plan.controls]
        if not seeds:
            return found
        key = key_of(aim.embedding, plan.sampling)
        plain = replace(aim, against_base=False)
        before = self.done
        base = self._kept.of(key, seeds, lambda missing: self._drawn(self._base, plain, missing))
        self.done = before + len(seeds)
        mine = {(key, seed) for seed in seeds}
        shared, self._of_file = len(mine & self._of_file), self._of_file | mine
        found = replace(
            found,
            base=torch.cat([found.base, *(picture[None] for picture in base)]),
            shared=found.shared + shared,
        )
        if not found.whole:
            return found
        copies, matching = self._copies_for(found, terms)
        few = found.seeds[len(found.scrambled) : plan.scrambled]
        drawn = [self._drawn(self._base.with_lora(copy.terms), aim, few) for copy in copies]
        sets = found.copies or (found.scrambled,) * len(copies)
        first, *others = (torch.cat(pair) for pair in zip(sets, drawn, strict=True))
        return replace(
            found,
            scrambled=first,
            others=tuple(others),
            matching=found.matching + matching,
            weaker=any(copy.weaker for copy in copies),
        )

    def _copies_for(self, found: Reconstruction, terms: Terms) -> tuple[list[Copy], int]:
        """Return the scrambled copies for an aim, and the evaluations spent; none where they are there."""
        aim, plan = found.aim, self._plan
        if aim in self._copies:
            return self._copies[aim], 0
        shown = found.base[:FIRST_LOOK]
        self._copies[aim] = [
            as_strong(
                terms, plan.seeds[0] + number, self._base, aim.embedding[None], shown[None], aim.strength
            )
            for number in range(plan.copies)
        ]
        return self._copies[aim], plan.copies * effort(len(shown))

    def _drawn(self, model: Base, aim: Aim, seeds: tuple[int, ...]) -> Tensor:
        """Draw pictures `[K, 3, H, W]` of `model` at the aim, a pass at a time."""
        if not seeds:
            return self.start(aim).tuned

        def one_pass(some: tuple[int, ...]) -> Tensor:
            self._on_step(self.done, self.total, f"attack {aim.attack}")
            made = draw(model, self._base, aim.embedding[None], some, self._plan.sampling, aim.against_base)
            self.done += len(some)
            return made

        return self._size.over(seeds, one_pass)


def draw(
    tuned: Base, base: Base, embedding: Tensor, seeds: Sequence[int], settings: Sampling, against_base: bool
) -> Tensor:
    """Make pictures `[M * K, 3, H, W]` in 0..1 of `tuned` at embeddings `[M, L, d]`, by either guidance."""
    way = ModelGuidance(tuned, base) if against_base else tuned
    return way.sample(embedding, seeds, settings)


def plan_for(card: BaseCard, samples: int, steps: int | None, seed: int, controls: int | None = None) -> Plan:
    """Plan pictures of `samples` seeds from `seed` on, with the guidance of the base's card.

    `steps` None means the steps of the card. `controls` is that of `Plan`. Where no calibration data ship,
    scrambled copies are the only LoRAs of nobody to compare with, and there are several.
    """
    seeds = tuple(range(seed, seed + samples))
    copies = COPIES if card.calibration is None and controls is None else 1
    return Plan(seeds, Sampling(steps or card.steps, card.guidance), controls=controls, copies=copies)

"""The plan of an audit: the seeds, the sampling, and the loop that all attacks share.

An audit goes attack by attack, the strongest first, and looks at the pictures every few. An attack whose
outcome is settled makes no more pictures. Once no attack can raise the verdict, the rest are skipped
(`loraudit.verdict.stopping` says when). The same file, seeds and budget give the same pictures.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor

from loraudit.attacks.aim import Aim, Reconstruction
from loraudit.attacks.controls import scrambled
from loraudit.attacks.guidance import ModelGuidance
from loraudit.attacks.table import place_of
from loraudit.base.lowrank import Terms
from loraudit.base.model import Base, Sampling
from loraudit.base.passes import KEEPS_BUSY, PREDICTED, samples_a_pass
from loraudit.lora import LoRA
from loraudit.runs import OnStep

__all__ = ["Plan", "draw", "looks", "plan_for"]

FIRST_LOOK: Final = 8
"""Pictures before the first look; four would hold fewer faces than a verdict needs."""
LOOKS_APART: Final = 4
"""Pictures between two looks."""


def looks(most: int) -> tuple[int, ...]:
    """List the numbers of pictures at which a scan of at most `most` looks at them; `most` is the last."""
    return (*range(FIRST_LOOK, most, LOOKS_APART), most)


@dataclass(frozen=True)
class Plan:
    """Budget of an audit."""

    seeds: tuple[int, ...]
    """Seeds of the pictures of every aim, at most; each seed makes a picture by each of the three models."""
    sampling: Sampling
    sequential: bool = True
    """True if the audit may stop early; a measurement of the pictures themselves must not."""

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
        settled: Callable[[Reconstruction], bool] = lambda _found: False,
        enough: Callable[[], bool] = lambda: False,
    ) -> Iterator[Reconstruction]:
        """Make the pictures of one aim after the other: with the LoRA, without it, and with a scrambled copy.

        A picture is a function of (LoRA, embedding, seed, settings), whatever else is in its batch. Without
        the LoRA neither guidance nor strength matters: an aim with the embedding of the aim before takes over
        the untouched model's pictures of that aim.

        `settled` is asked at every look whether an aim needs no more pictures. `enough` is asked after every
        aim whether the others are not needed. A plan that is not `sequential` asks neither.

        `on_step` hears how many pictures are done, how many are expected in all, and which attack makes them.
        Raises `NotScannable` if the LoRA does not fit the base.
        """
        terms = base.with_lora(lora).terms
        full: tuple[Terms, ...] = (terms, {}, scrambled(terms, self.seeds[0]))
        size, each = self.pictures_a_pass(base), len(full) * len(self.seeds)
        done, total = 0, len(aims) * each
        none = torch.zeros(0, 3, base.image_size, base.image_size)
        found: Reconstruction | None = None
        for aim in aims:
            made = found.base if found and torch.equal(found.aim.embedding, aim.embedding) else none
            models = [base.with_lora(group, aim.strength) for group in full]
            found, start = Reconstruction(aim, (), none, none, none), 0
            for look in looks(len(self.seeds)):
                while start < look:
                    seeds = self.seeds[start : min(start + size, look)]
                    parts: list[Tensor] = []
                    before = made[start : start + len(seeds)]
                    shared = len(seeds) if len(before) == len(seeds) else 0
                    for model in models:
                        made_now = len(models) * start + len(parts) * len(seeds)
                        on_step(done + made_now, total, f"attack {aim.attack}")
                        if shared and not model.loras:
                            parts.append(before)
                            continue
                        embedding = aim.embedding[None]
                        parts.append(draw(model, base, embedding, seeds, self.sampling, aim.against_base))
                    found, start = _extended(found, seeds, parts, shared), start + len(seeds)
                if self.sequential and look < len(self.seeds) and settled(found):
                    break
            done, total = done + len(models) * start, total - each + len(models) * start
            on_step(done, total, f"attack {aim.attack}")
            yield found
            if self.sequential and enough():
                on_step(done, done, f"attack {aim.attack}")
                return

    @staticmethod
    def pictures_a_pass(base: Base) -> int:
        """Count the pictures to make at once: as many as keep a CPU busy, or a GPU's memory allows."""
        positions = KEEPS_BUSY if base.device.type == "cpu" else PREDICTED
        return samples_a_pass(base.latent_shape, positions)

    def evaluations(self, pictures: int, shared: int) -> int:
        """Count evaluations of the UNet for `pictures` by each of the three models.

        The base had made `shared` of its pictures for the aim before.
        """
        return (3 * pictures - shared) * self.sampling.steps * (1 if self.sampling.guidance == 1 else 2)

    def most(self, aims: Sequence[Aim]) -> int:
        """Count the evaluations of the UNet for `aims` if nothing stops early."""
        shared = sum(torch.equal(one.embedding, other.embedding) for one, other in pairwise(aims))
        return self.evaluations(len(aims) * len(self.seeds), shared * len(self.seeds))


def _extended(
    found: Reconstruction, seeds: tuple[int, ...], parts: Sequence[Tensor], shared: int
) -> Reconstruction:
    """Add the pictures `parts` of the three models at `seeds`, `shared` of them taken over by the base."""
    before = (found.tuned, found.base, found.scrambled)
    tuned, base, scrambled = map(torch.cat, zip(before, parts, strict=True))
    return Reconstruction(found.aim, (*found.seeds, *seeds), tuned, base, scrambled, found.shared + shared)


def draw(
    tuned: Base, base: Base, embedding: Tensor, seeds: Sequence[int], settings: Sampling, against_base: bool
) -> Tensor:
    """Make pictures `[M * K, 3, H, W]` in 0..1 of `tuned` at embeddings `[M, L, d]`, by either guidance."""
    way = ModelGuidance(tuned, base) if against_base else tuned
    return way.sample(embedding, seeds, settings)


def plan_for(base: Base, samples: int, steps: int | None, seed: int) -> Plan:
    """Plan pictures of `samples` seeds from `seed` on, with the guidance of the base's card.

    `steps` None means the steps of the card.
    """
    seeds = tuple(range(seed, seed + samples))
    return Plan(seeds, Sampling(steps or base.card.steps, base.card.guidance))

"""How much an audit does: which seeds, how they are sampled, and the loop that all attacks share."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import torch
from torch import Tensor

from loraudit.attacks import Aim, Reconstruction
from loraudit.attacks.guidance import sample_against_base
from loraudit.base import Base, Sampling
from loraudit.lora import LoRA
from loraudit.lowrank import Terms, stack

__all__ = ["Plan", "draw", "plan_for"]


@dataclass(frozen=True)
class Plan:
    """The budget of an audit."""

    seeds: tuple[int, ...]
    """One picture with and one without the LoRA for each, for every aim."""
    sampling: Sampling

    @property
    def budget(self) -> str:
        """In words, for the report."""
        sampling = self.sampling
        pictures = "1 sample" if len(self.seeds) == 1 else f"{len(self.seeds)} samples"
        return f"{pictures}, {sampling.steps} steps, guidance {sampling.guidance:g}"

    def device(self, base: Base) -> str:
        """Where and with what it runs, for the report."""
        return f"{base.device}, torch {torch.__version__}, diffusers {version('diffusers')}"

    def reconstruct(
        self, lora: LoRA, base: Base, aims: Sequence[Aim], on_step: Callable[[int, int], None]
    ) -> Iterator[Reconstruction]:
        """Pictures of one aim after the other, with the LoRA and without it.

        A picture is a function of (LoRA, embedding, seed, settings), whatever else is in its batch. `on_step`
        hears how many pictures are done, of how many. Raises `NotScannable` if the LoRA does not fit the
        base.
        """
        terms = stack([lora], base.device, base.dtype)
        size = _pictures_a_pass(base)
        total, done = 2 * len(aims) * len(self.seeds), 0
        for aim in aims:
            tuned, plain = [], []
            for seeds in (self.seeds[i : i + size] for i in range(0, len(self.seeds), size)):
                on_step(done, total)
                tuned.append(draw(base, terms, aim.embedding[None], seeds, self.sampling, aim.against_base))
                on_step(done + len(seeds), total)
                plain.append(base.sample(aim.embedding[None], seeds, self.sampling))
                done += 2 * len(seeds)
            on_step(done, total)
            yield Reconstruction(aim, self.seeds, torch.cat(tuned), torch.cat(plain))


def draw(
    base: Base,
    terms: Terms,
    embedding: Tensor,
    seeds: Sequence[int],
    settings: Sampling,
    against_base: bool,
    loras: int = 1,
) -> Tensor:
    """Pictures `[M * K, 3, H, W]` of the `M` LoRAs `terms` at embeddings `[M, L, d]`, by either guidance."""
    if against_base:
        return sample_against_base(base, terms, embedding, seeds, settings, loras)
    with base.tuned(terms):
        return base.sample(embedding, seeds, settings, loras)


def plan_for(base: Base, samples: int, steps: int, seed: int) -> Plan:
    """A plan of `samples` pictures from `seed` on; the guidance is the paper's 7.5, 3 on the embedded base.

    A base of 64 pixels leaves what it was trained on at more than that.
    """
    guidance = 3.0 if base.image_size <= 64 else Sampling().guidance
    return Plan(tuple(range(seed, seed + samples)), Sampling(steps, guidance))


def _pictures_a_pass(base: Base) -> int:
    """As many as keep a CPU busy; on a GPU, four of 512 pixels in about 5 GB with the weights of SD 1.x."""
    _, height, width = base.latent_shape
    positions = 16 * 64 if base.device.type == "cpu" else 4 * 4096
    return max(1, positions // (height * width))

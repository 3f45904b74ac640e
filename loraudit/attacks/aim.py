"""The nouns of an attack: an aim, what it brought back, and the attack itself."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from torch import Tensor

from loraudit.base.model import Base
from loraudit.evidence.faces import AttackEvidence
from loraudit.evidence.likelihood import Likelihood
from loraudit.findings.conditions import EncoderUsed
from loraudit.lora import LoRA
from loraudit.scores.scorers import Pictures, Scorers

__all__ = ["Aim", "Attack", "PhotoTest", "Reconstruction"]


@dataclass(frozen=True, eq=False)
class Aim:
    """One embedding that an attack gives to the model in place of a prompt's."""

    attack: str
    """`paper`, `prompts:no-trigger`, `prompts:class`, `prompts:trigger`, ...; never words of the file."""
    embedding: Tensor
    """`[L, d]`."""
    aims_at_face: bool = True
    """False if the embedding does not ask for a person."""
    quotes: tuple[str, ...] = ()
    """Private words of the file that went in, harmless for display."""
    against_base: bool = False
    """Sampled by model guidance (`loraudit.attacks.guidance`) instead of classifier-free guidance."""
    strength: float = 1.0
    """Factor of the LoRA's update while the pictures are made, as a user's slider."""
    likeness_only: bool = False
    """Made for the reference photos: whether its pictures agree with each other says nothing."""
    encoder: EncoderUsed | None = None
    """The encoder that made it."""
    evaluations: int = 0
    """Evaluations of the UNet that it took to find it."""
    calibrated_as: str | None = None
    """Aim that stands for it among control LoRAs, where the file's own words went in; None: itself."""

    @property
    def among_controls(self) -> str:
        """Name under which control LoRAs are measured."""
        return self.calibrated_as or self.attack


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Pictures that one aim brought back, in the order of the seeds."""

    aim: Aim
    seeds: tuple[int, ...]
    tuned: Tensor
    """Pictures by the model with the LoRA, float32 `[K, 3, H, W]` in 0..1."""
    base: Tensor
    """Pictures by the untouched model: the same embedding, seeds and settings."""
    scrambled: Tensor
    """Pictures by the model with a scrambled copy of the LoRA (`loraudit.attacks.controls`): the same."""
    shared: int = 0
    """Pictures in `base` that were made for the aim before."""

    def weighed(self, scorers: Scorers) -> AttackEvidence:
        """Measure the pictures with `scorers`."""
        seen = scorers.weigh(self.aim.attack, Pictures(self.tuned, self.base, self.scrambled))
        aim = self.aim
        return replace(
            seen, aims_at_face=aim.aims_at_face, likeness_only=aim.likeness_only, quotes=aim.quotes
        )


class Attack(Protocol):
    """A way to find embeddings."""

    @property
    def name(self) -> str:
        """Name in `--attack`."""
        ...

    def aims(self, lora: LoRA, base: Base) -> Sequence[Aim]:
        """Find the embeddings to try, at least one.

        Raises `LorauditError` with the exit code of `Incomplete` if it cannot read this LoRA.
        """
        ...


@runtime_checkable
class PhotoTest(Protocol):
    """A way to compare reference photos with the LoRA, without a picture."""

    @property
    def name(self) -> str:
        """Name in `--attack`."""
        ...

    @property
    def evaluations(self) -> int:
        """Evaluations of the UNet that it takes."""
        ...

    def run(self, tuned: Base, base: Base, embedding: Tensor) -> Likelihood:
        """Compare `tuned`, which carries one LoRA, with `base` at the embedding `[L, d]` of an attack."""
        ...

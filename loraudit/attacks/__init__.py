"""Attacks: from a LoRA and its base to embeddings at which the tuned model may draw the private person.

An attack sees nothing else. `loraudit.attacks.plan` makes the pictures, the same way for every attack;
`loraudit.scores.scorers` compares them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from loraudit.base.model import Base
from loraudit.findings.conditions import EncoderUsed
from loraudit.lora import LoRA

__all__ = ["Aim", "Attack", "Reconstruction"]


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
    """Of the UNet, for finding it."""


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What one aim brought back, picture by picture in the order of the seeds."""

    aim: Aim
    seeds: tuple[int, ...]
    tuned: Tensor
    """Pictures by the model with the LoRA, float32 `[K, 3, H, W]` in 0..1."""
    base: Tensor
    """Pictures by the untouched model: the same embedding, seeds and settings."""
    scrambled: Tensor
    """Pictures by the model with a scrambled copy of the LoRA (`loraudit.attacks.controls`): the same."""
    shared: int = 0
    """How many in `base` were made for the aim before."""


class Attack(Protocol):
    """A way to find embeddings."""

    @property
    def name(self) -> str:
        """What `--attack` calls it."""
        ...

    def aims(self, lora: LoRA, base: Base) -> Sequence[Aim]:
        """The embeddings to try, at least one.

        Raises `LorauditError` with the exit code of `Incomplete` if it cannot read this LoRA.
        """
        ...

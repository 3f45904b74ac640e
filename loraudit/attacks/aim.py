"""An attack, its aims (embeddings to try), and the pictures that each aim brought back."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from loraudit.base.model import Base
from loraudit.evidence.faces import AttackEvidence
from loraudit.evidence.likelihood import Likelihood
from loraudit.evidence.null import agreement_score
from loraudit.findings.conditions import EncoderUsed
from loraudit.findings.report import Gap
from loraudit.lora import LoRA
from loraudit.scores.scorers import Pictures, Scorers

__all__ = ["Aim", "Attack", "PhotoTest", "Reconstruction"]


@dataclass(frozen=True, eq=False)
class Aim:
    """Embedding that an attack gives to the model in place of a prompt's."""

    attack: str
    """Name of the aim: `paper`, `prompts:no-trigger`, `prompts:class`, ...; never words of the file."""
    embedding: Tensor
    """Text embedding `[L, d]`."""
    aims_at_face: bool = True
    """False if the embedding does not ask for a person."""
    quotes: tuple[str, ...] = ()
    """Private words of the file behind the embedding, escaped for display."""
    against_base: bool = False
    """True for model guidance (`loraudit.attacks.guidance`), False for classifier-free guidance."""
    strength: float = 1.0
    """Factor of the LoRA's update while pictures are made; 1 leaves the update as it is."""
    likeness_only: bool = False
    """True if only likeness to reference photos counts; agreement among the pictures then says nothing."""
    encoder: EncoderUsed | None = None
    """Encoder that made the embedding; None: no encoder did."""
    evaluations: int = 0
    """Evaluations of the UNet spent on finding the embedding."""
    calibrated_as: str | None = None
    """Aim measured in its place on control LoRAs, where the file's own words went in; None: itself."""

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
    """Pictures `[J, 3, H, W]` by the untouched model, with the same embedding, first seeds and settings.

    `J` is at most `K`: controls are drawn only where the pictures above ask for them.
    """
    scrambled: Tensor
    """Pictures by the model with a scrambled copy of the LoRA (`loraudit.attacks.controls`), likewise.

    This copy is judged. Of several it is the one whose faces agree most, once `ranked`.
    """
    others: tuple[Tensor, ...] = ()
    """Pictures with each further scrambled copy."""
    shared: int = 0
    """Number of pictures in `base` that an earlier aim had, too."""
    matching: int = 0
    """Evaluations of the UNet spent on making the copies as strong as the LoRA."""
    weaker: bool = False
    """True if a copy moves the model less than the LoRA even at its largest."""

    @property
    def drawn(self) -> int:
        """Number of pictures that had to be drawn."""
        return len(self.tuned) + len(self.base) + sum(map(len, self.copies)) - self.shared

    @property
    def copies(self) -> tuple[Tensor, ...]:
        """Pictures with each scrambled copy; none before any are drawn."""
        return (self.scrambled, *self.others) if len(self.scrambled) else ()

    @property
    def whole(self) -> bool:
        """True if every pixel is a number; others say nothing, not even that there is no face."""
        return all(bool(one.isfinite().all()) for one in (self.tuned, self.base, *self.copies))

    def gap(self, base: Base) -> Gap | None:
        """Return the reason why the pictures cannot be judged; None if they can."""
        if self.whole:
            return None
        why = (
            "its pictures are no numbers, as the update is too large for this base"
            if base.dtype == torch.float32
            else "its pictures are no numbers: half precision fails; use --device cpu, which takes float32"
        )
        return Gap(f"attack {self.aim.attack}", why)

    def ranked(self, scorers: Scorers) -> "Reconstruction":
        """Put the scrambled copy first whose faces agree most: a file has to lead the strongest of them."""
        if not self.others:
            return self

        def agree(pictures: Tensor) -> float:
            return agreement_score(scorers.faces(pictures), scorers.face.threshold, (len(pictures),))

        first, *others = sorted(self.copies, key=agree, reverse=True)
        return replace(self, scrambled=first, others=tuple(others))

    def weighed(self, scorers: Scorers) -> AttackEvidence:
        """Score the pictures with `scorers`."""
        strongest, aim = self.ranked(scorers).scrambled, self.aim
        seen = scorers.weigh(aim.attack, Pictures(self.tuned, self.base, strongest))
        faces = [scorers.face.embed(pictures).found for pictures in self.copies]
        return replace(
            seen,
            disturbed=tuple((sum(found), len(found)) for found in faces),
            weaker=self.weaker,
            aims_at_face=aim.aims_at_face,
            likeness_only=aim.likeness_only,
            quotes=aim.quotes,
        )


class Attack(Protocol):
    """Way to find embeddings that may show the person."""

    @property
    def name(self) -> str:
        """Name in `--attack`."""
        ...

    def aims(self, lora: LoRA, base: Base) -> Sequence[Aim]:
        """Find the embeddings to try, at least one.

        Raises `LorauditError` with the exit code of `Incomplete` if the attack cannot read this LoRA.
        """
        ...


@runtime_checkable
class PhotoTest(Protocol):
    """Way to compare reference photos with the LoRA, without making a picture."""

    @property
    def name(self) -> str:
        """Name in `--attack`."""
        ...

    @property
    def evaluations(self) -> int:
        """Evaluations of the UNet in one run."""
        ...

    def run(self, tuned: Base, base: Base, embedding: Tensor) -> Likelihood:
        """Compare `tuned`, which carries one LoRA, with `base` at the embedding `[L, d]` of an attack."""
        ...

"""Evidence of one attack, as plain numbers: the faces in its pictures and their similarities."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loraudit.evidence.copies import Copies

__all__ = ["AttackEvidence", "Faces", "Reading"]


@dataclass(frozen=True)
class Faces:
    """The faces found in one set of pictures, in the order of their seeds."""

    pictures: int
    """Pictures made, one per seed."""
    found: int
    """Pictures in which a face was found, at most `pictures`."""
    pairs: tuple[float, ...]
    """Cosines in -1..1 between found faces: `[found (found - 1) / 2]`, in `itertools.combinations` order."""
    to_reference: tuple[float, ...] | None = None
    """Cosine in -1..1 of each found face to the mean embedding of the reference photos, None without."""
    where: tuple[int, ...] | None = None
    """Numbers of the pictures with the found faces, rising from 0; None: the first ones."""

    def __post_init__(self) -> None:
        if not 0 <= self.found <= self.pictures:
            raise ValueError(f"{self.found} faces found in {self.pictures} pictures")
        if self.where is not None and not (
            len(self.where) == self.found
            and list(self.where) == sorted(set(self.where))
            and set(self.where) <= set(range(self.pictures))
        ):
            raise ValueError(f"{self.found} faces found in {self.pictures} pictures cannot be {self.where}")
        _check("pairs", self.pairs, math.comb(self.found, 2))
        if self.to_reference is not None:
            _check("to_reference", self.to_reference, self.found)

    def first(self, pictures: int) -> "Faces":
        """Return the faces of the first `pictures`, at most all: the state when no more were made."""
        where = tuple(range(self.found)) if self.where is None else self.where
        found = sum(at < pictures for at in where)
        pairs = (cosine for (_, j), cosine in zip(self._ordered(), self.pairs, strict=True) if j < found)
        to_reference = None if self.to_reference is None else self.to_reference[:found]
        return Faces(min(pictures, self.pictures), found, tuple(pairs), to_reference, where[:found])

    def _ordered(self) -> Iterator[tuple[int, int]]:
        return combinations(range(self.found), 2)


@dataclass(frozen=True)
class Reading:
    """A further similarity, reported and never judged: CLIP-I, CLIP-T."""

    name: str
    """`clip-i` or `clip-t`."""
    against: str
    """Object of the comparison: `reference`, `each other`, `class prompt`, `true prompt`."""
    values: tuple[float, ...]
    """Values of the tuned model's pictures: one a picture, or one a pair when `against` is `each other`."""
    base_values: tuple[float, ...] = ()
    """Values of the base model's pictures, likewise."""


@dataclass(frozen=True)
class AttackEvidence:
    """Everything that one attack brought back."""

    attack: str
    """`paper`, `prompts:no-trigger`, `prompts:class`, `prompts:trigger`, ..."""
    threshold: float
    """Cosine from which the face model calls two faces one person."""
    far: float
    """False-accept rate of strangers at that threshold, in 0..1."""
    tuned: Faces
    """Pictures made with the LoRA."""
    base: Faces
    """Pictures made without the LoRA: same embedding, first seeds and settings; none where not asked for."""
    cross: tuple[float, ...]
    """Cosines between found tuned faces and found base faces, row by row: `[tuned.found * base.found]`."""
    scrambled: Faces | None = None
    """Pictures made with the scrambled LoRA: same embedding, first seeds and settings; None without any."""
    scrambled_cross: tuple[float, ...] = ()
    """Cosines between found tuned faces and found scrambled faces: `[tuned.found * scrambled.found]`."""
    disturbed: tuple[tuple[int, int], ...] = ()
    """Faces found, and pictures made, with each scrambled LoRA; `scrambled` is the one that agrees most."""
    weaker: bool = False
    """True if a scrambled LoRA moves the model less than the file even at its largest."""
    readings: tuple[Reading, ...] = ()
    aims_at_face: bool = True
    """False if the prompt does not ask for a person: a picture without a face is an answer too."""
    likeness_only: bool = False
    """True if the pictures are only compared with the reference photos, and their agreement is not judged."""
    quotes: tuple[str, ...] = ()
    """Private words of the file that the attack used (triggers, captions): shown only on request."""
    copies: "Copies | None" = None
    """Distances of the pictures to the reference photos themselves; None without photos."""
    threshold_from: str = ""
    """Source of a threshold that was never measured with the face model's crop; empty: it was measured."""

    def __post_init__(self) -> None:
        if not 0 < self.far < 1:
            raise ValueError(f"a false-accept rate of {self.far}")
        _check("cross", self.cross, self.tuned.found * self.base.found)
        if (self.tuned.to_reference is None) != (self.base.to_reference is None):
            raise ValueError("references must be compared with tuned and base pictures alike")
        controls = 0 if self.scrambled is None else self.scrambled.found
        _check("scrambled_cross", self.scrambled_cross, self.tuned.found * controls)

    @property
    def controlled(self) -> bool:
        """True if there are pictures without the LoRA to compare with."""
        return self.base.pictures > 0

    @property
    def against_scrambled(self) -> "AttackEvidence | None":
        """Same evidence with the scrambled LoRA's pictures in place of the base model's; None without any."""
        if self.scrambled is None:
            return None
        return replace(
            self,
            base=self.scrambled,
            cross=self.scrambled_cross,
            scrambled=None,
            scrambled_cross=(),
            disturbed=(),
        )


def _check(name: str, cosines: Sequence[float], length: int) -> None:
    if len(cosines) != length:
        raise ValueError(f"{name}: {len(cosines)} cosines where {length} were due")
    if not all(math.isfinite(cosine) for cosine in cosines):
        raise ValueError(f"{name}: a cosine is not a finite number")

"""From pictures to evidence: who is on them, how close they are to each other and to reference photos."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from loraudit.attacks import Reconstruction
from loraudit.base.model import CLASS_PROMPT
from loraudit.errors import LorauditError
from loraudit.evidence.faces import AttackEvidence, Faces, Reading
from loraudit.scores import ClipScorer, FaceEmbeddings, FaceScorer
from loraudit.scores.consensus import consensus
from loraudit.scores.copies import CopyScorer

__all__ = ["References", "Scorers", "look_at"]


@dataclass(frozen=True, eq=False)
class References:
    """The person in the reference photos."""

    face: Tensor
    """Mean of the faces found, a unit vector `[d]`."""
    faces: int
    """Photos in which a face was found, at least one."""
    photos: int
    clip: Tensor | None
    """CLIP embeddings of all photos, `[R, e]`; None without a CLIP model."""
    copies: CopyScorer
    """Tells the photos themselves among pictures."""
    decoys: Tensor | None = None
    """Faces of other people, unit vectors `[D, d]`; None without any."""


@dataclass(frozen=True, eq=False)
class Scorers:
    """What looks at the pictures."""

    face: FaceScorer
    clip: ClipScorer | None = None
    """None: no CLIP scores."""
    references: References | None = None
    face_sha256: str = ""
    """Of the face model's weights."""

    def weigh(self, found: Reconstruction) -> AttackEvidence:
        """The numbers of one aim."""
        pictures = (found.tuned, found.base, found.scrambled)
        tuned, base, scrambled = map(self.face.embed, pictures)
        return AttackEvidence(
            attack=found.aim.attack,
            threshold=self.face.threshold,
            far=self.face.far,
            tuned=self._faces(tuned),
            base=self._faces(base),
            cross=_cosines(_found(tuned) @ _found(base).T),
            scrambled=self._faces(scrambled),
            scrambled_cross=_cosines(_found(tuned) @ _found(scrambled).T),
            readings=(*self._agreed(tuned, base), *self._readings(found)),
            aims_at_face=found.aim.aims_at_face,
            likeness_only=found.aim.likeness_only,
            quotes=found.aim.quotes,
            copies=None if self.references is None else self.references.copies.measure(*pictures),
        )

    def faces(self, pictures: Tensor) -> Faces:
        """Those on pictures `[N, 3, H, W]` in 0..1."""
        return self._faces(self.face.embed(pictures))

    def _faces(self, faces: FaceEmbeddings) -> Faces:
        vectors = _found(faces)
        to_reference = None if self.references is None else _cosines(vectors @ self.references.face)
        where = tuple(at for at, found in enumerate(faces.found) if found)
        return Faces(len(faces.found), len(vectors), _pairs(vectors), to_reference, where)

    def _agreed(self, tuned: FaceEmbeddings, base: FaceEmbeddings) -> tuple[Reading, ...]:
        """How near the face that the pictures agree on is to the reference, and its place among decoys."""
        if self.references is None:
            return ()
        person, decoys = self.references.face, self.references.decoys
        agreed = [consensus(faces.vectors, self.face.threshold) for faces in (tuned, base)]
        near = [() if one is None else _cosines(one.face @ person) for one in agreed]
        readings = [Reading("consensus", "reference", near[0], near[1])]
        if decoys is not None:
            places = [
                () if one is None else (1.0 + float((decoys @ one.face > one.face @ person).sum()),)
                for one in agreed
            ]
            readings.append(Reading("rank", f"reference among {len(decoys) + 1}", places[0], places[1]))
        return tuple(readings)

    def _readings(self, found: Reconstruction) -> tuple[Reading, ...]:
        if self.clip is None:
            return ()
        tuned, base = (_sound(self.clip.image_embeddings(x)) for x in (found.tuned, found.base))
        text = self.clip.text_embeddings([CLASS_PROMPT])[0]
        readings = [
            Reading("clip-i", "each other", _pairs(tuned), _pairs(base)),
            Reading("clip-t", "class prompt", _cosines(tuned @ text), _cosines(base @ text)),
        ]
        if self.references is not None and self.references.clip is not None:
            photos = self.references.clip.T
            means = [_cosines((vectors @ photos).mean(1)) for vectors in (tuned, base)]
            readings.insert(0, Reading("clip-i", "reference", means[0], means[1]))
        return tuple(readings)


def look_at(
    photos: Sequence[Tensor], face: FaceScorer, clip: ClipScorer | None, decoys: Tensor | None = None
) -> References:
    """The person in reference photos `[3, H, W]` in 0..1, of any sizes; `decoys [D, d]` are other faces.

    Raises `LorauditError` if the face model finds no face in any.
    """
    seen = [_found(face.embed(photo[None])) for photo in photos]
    vectors = torch.cat(seen)
    if not len(vectors):
        raise LorauditError(
            f"{face.name} finds no face in any of the {len(photos)} reference photos",
            "give photos that show the person's face",
        )
    embedded = None if clip is None else torch.cat([clip.image_embeddings(photo[None]) for photo in photos])
    person = F.normalize(vectors.mean(0), dim=0)
    return References(person, len(vectors), len(photos), embedded, CopyScorer(tuple(photos)), decoys)


def _found(faces: FaceEmbeddings) -> Tensor:
    return faces.vectors[torch.tensor(faces.found, dtype=torch.bool)]


def _sound(vectors: Tensor) -> Tensor:
    """Without those of broken (NaN) pictures: they are no picture at all."""
    return vectors[vectors.isfinite().all(1)]


def _pairs(vectors: Tensor) -> tuple[float, ...]:
    """Cosines of all pairs of unit vectors `[n, d]`, in `itertools.combinations` order."""
    first, second = torch.triu_indices(len(vectors), len(vectors), offset=1)
    return _cosines((vectors @ vectors.T)[first, second])


def _cosines(values: Tensor) -> tuple[float, ...]:
    # Products of float32 unit vectors miss 1 by rounding.
    return tuple(values.flatten().clamp(-1, 1).tolist())

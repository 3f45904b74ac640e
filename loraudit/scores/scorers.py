"""Evidence from pictures: who is on them, how close they are to each other and to reference photos.

`open_scorers` opens the models that suit a base by the names that `models/cards.toml` gives.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from loraudit.cards import artefact, cache_folder
from loraudit.errors import Incomplete, LorauditError
from loraudit.evidence.faces import AttackEvidence, Faces, Reading
from loraudit.files import file_sha256
from loraudit.findings.report import Gap, gap
from loraudit.scores import ClipScorer, FaceEmbeddings, FaceScorer
from loraudit.scores.clip import load_openai_clip, load_tiny_clip, openai_clip_weights
from loraudit.scores.consensus import consensus
from loraudit.scores.copies import CopyScorer
from loraudit.scores.face import load_tiny_face
from loraudit.scores.facenet import facenet_weights, load_facenet
from loraudit.scores.remembered import RememberedClip, RememberedFaces

__all__ = ["WEIGHTS", "Pictures", "References", "Scorers", "look_at", "open_face", "open_scorers"]


@dataclass(frozen=True, eq=False)
class References:
    """Person in the reference photos."""

    face: Tensor
    """Mean of the faces found, a unit vector `[d]`."""
    faces: int
    """Number of photos in which a face was found, at least one."""
    photos: int
    """Number of photos, `R`."""
    clip: Tensor | None
    """CLIP embeddings of all photos, `[R, e]`; None without a CLIP model."""
    copies: CopyScorer
    """Scorer that finds the photos themselves among pictures."""
    decoys: Tensor | None = None
    """Faces of other people, unit vectors `[D, d]`; None without any."""


class Pictures(NamedTuple):
    """Pictures of one aim, float32 `[K, 3, H, W]` in 0..1, by the same embedding, seeds and settings.

    Of the controls there may be fewer, or none.
    """

    tuned: Tensor
    """Pictures by the model with the LoRA."""
    base: Tensor
    """Pictures by the model without the LoRA."""
    scrambled: Tensor
    """Pictures by the model with a scrambled copy of the LoRA."""


@dataclass(frozen=True, eq=False)
class Scorers:
    """Models that look at the pictures, and the person to look for."""

    face: FaceScorer
    clip: ClipScorer | None = None
    """CLIP model; None: no CLIP scores."""
    references: References | None = None
    """Person to look for; None without reference photos."""
    face_sha256: str = ""
    """Hash of the face model's weights, hex."""
    class_prompt: str = ""
    """Prompt that CLIP-T compares pictures with."""

    def weigh(self, attack: str, pictures: Pictures) -> AttackEvidence:
        """Score the pictures of one aim, called `attack`."""
        tuned, base, scrambled = map(self.face.embed, pictures)
        return AttackEvidence(
            attack=attack,
            threshold=self.face.threshold,
            far=self.face.far,
            tuned=self._faces(tuned),
            base=self._faces(base),
            cross=_cosines(_found(tuned) @ _found(base).T),
            scrambled=self._faces(scrambled) if scrambled.found else None,
            scrambled_cross=_cosines(_found(tuned) @ _found(scrambled).T),
            readings=(*self._agreed(tuned, base), *self._readings(pictures)),
            copies=None if self.references is None else self.references.copies.measure(*pictures),
            threshold_from=self.face.threshold_from,
        )

    def faces(self, pictures: Tensor) -> Faces:
        """Find the faces on pictures `[N, 3, H, W]` in 0..1 and compare them."""
        return self._faces(self.face.embed(pictures))

    def _faces(self, faces: FaceEmbeddings) -> Faces:
        """Compare faces with each other and with the reference."""
        vectors = _found(faces)
        to_reference = None if self.references is None else _cosines(vectors @ self.references.face)
        where = tuple(at for at, found in enumerate(faces.found) if found)
        return Faces(len(faces.found), len(vectors), _pairs(vectors), to_reference, where)

    def _agreed(self, tuned: FaceEmbeddings, base: FaceEmbeddings) -> tuple[Reading, ...]:
        """Compare the face that pictures agree on with the reference, and rank the reference among decoys."""
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

    def _readings(self, pictures: Pictures) -> tuple[Reading, ...]:
        """Score pictures by CLIP, with the model without the LoRA beside."""
        if self.clip is None:
            return ()
        tuned, base = (_sound(self.clip.image_embeddings(x)) for x in (pictures.tuned, pictures.base))
        text = self.clip.text_embeddings([self.class_prompt])[0]
        readings = [
            Reading("clip-i", "each other", _pairs(tuned), _pairs(base)),
            Reading("clip-t", "class prompt", _cosines(tuned @ text), _cosines(base @ text)),
        ]
        if self.references is not None and self.references.clip is not None:
            photos = self.references.clip.T
            means = [_cosines((vectors @ photos).mean(1)) for vectors in (tuned, base)]
            readings.insert(0, Reading("clip-i", "reference", means[0], means[1]))
        return tuple(readings)


def open_face(name: str, device: torch.device, offline: bool) -> tuple[Path, FaceScorer]:
    """Open a face model by its name in `models/cards.toml`; return its file of weights and the model.

    The model is on `device`. Raises `Incomplete` if the weights are not at hand, `LorauditError` if they are
    damaged.
    """
    return _FACES[name](device, offline)


def open_scorers(
    face: str, clip: str, class_prompt: str, device: torch.device, offline: bool
) -> tuple[Scorers | None, tuple[Gap, ...]]:
    """Open the face model `face` and the CLIP model `clip` on `device`; return scorers and gaps.

    Both look at a picture once, however often its scores are asked for (`loraudit.scores.remembered`).
    A gap stands for each model that is not at hand; without a face model there are no scorers. Raises
    `LorauditError` if an artefact of this installation is damaged.
    """
    try:
        weights, looks = open_face(face, device, offline)
    except Incomplete as error:
        return None, (gap("face model", error),)
    gaps: tuple[Gap, ...] = ()
    places: ClipScorer | None = None
    try:
        places = RememberedClip(_CLIPS[clip](device, offline))
    except Incomplete as error:
        gaps = (gap("CLIP model", error),)
    return Scorers(RememberedFaces(looks), places, None, file_sha256(weights), class_prompt), gaps


def _tiny_face(device: torch.device, _offline: bool) -> tuple[Path, FaceScorer]:
    """Open the face model of the synthetic people."""
    weights = artefact("tiny-face") / "model.safetensors"
    return weights, load_tiny_face(weights.parent, device)


def _facenet(device: torch.device, offline: bool) -> tuple[Path, FaceScorer]:
    """Open the face model of photographs."""
    weights = facenet_weights(cache_folder(), offline=offline)
    return weights, load_facenet(weights, device)


def _tiny_clip(device: torch.device, _offline: bool) -> ClipScorer:
    """Open the CLIP model of the synthetic people."""
    return load_tiny_clip(artefact("tiny-clip"), device)


def _openai_clip(device: torch.device, offline: bool) -> ClipScorer:
    """Open OpenAI's CLIP model."""
    return load_openai_clip(openai_clip_weights(offline=offline), device)


_FACES: Final = {"tiny-face": _tiny_face, "facenet": _facenet}
_CLIPS: Final = {"tiny-clip": _tiny_clip, "clip-vit-l-14": _openai_clip}
WEIGHTS: Final = {"facenet": 110 * 2**20, "clip-vit-l-14": 1631 * 2**20}
"""Bytes in memory of the models for photographs, float32; those of the synthetic people have next to none."""


def look_at(
    photos: Sequence[Tensor], face: FaceScorer, clip: ClipScorer | None, decoys: Tensor | None = None
) -> References:
    """Find the person in reference photos `[3, H, W]` in 0..1, of any sizes.

    `decoys [D, d]` are faces of other people. Raises `LorauditError` if the face model finds no face in any
    photo.
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
    """Select the vectors of the faces found, `[n, d]`."""
    return faces.vectors[torch.tensor(faces.found, dtype=torch.bool)]


def _sound(vectors: Tensor) -> Tensor:
    """Leave out vectors of broken (NaN) pictures, which are no pictures at all."""
    return vectors[vectors.isfinite().all(1)]


def _pairs(vectors: Tensor) -> tuple[float, ...]:
    """Compute the cosines of all pairs of unit vectors `[n, d]`, in the order of `itertools.combinations`."""
    first, second = torch.triu_indices(len(vectors), len(vectors), offset=1)
    return _cosines((vectors @ vectors.T)[first, second])


def _cosines(values: Tensor) -> tuple[float, ...]:
    """List products of unit vectors as cosines in -1..1."""
    # Products of float32 unit vectors miss 1 by rounding.
    return tuple(values.flatten().clamp(-1, 1).tolist())

"""Scorers that look at a picture once: vectors are kept, and found again by the picture's own bytes.

A scan asks for the faces of an attack at every look, and the pictures of the base model serve several
attacks and files. A face detector takes longer for a picture than a GPU for a step of its sampling.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import torch
from torch import Tensor

from loraudit.scores import ClipScorer, FaceEmbeddings, FaceScorer

__all__ = ["KEPT", "RememberedClip", "RememberedFaces"]

KEPT: Final = 4096
"""Pictures or texts whose vectors a scorer keeps, at most; 16 MB for vectors of 1024 numbers."""


_Value = TypeVar("_Value")


class _Memory(Generic[_Value]):
    """Values by key, the least recently used of them forgotten."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, _Value] = OrderedDict()

    def of(self, keys: list[bytes], find: Callable[[list[int]], list[_Value]]) -> list[_Value]:
        """Return the value of each key; `find` gets the places of those that are not known, once each."""
        new = [at for at, key in enumerate(keys) if key not in self._kept and keys.index(key) == at]
        known = {key: self._kept[key] for key in keys if key in self._kept}
        known |= dict(zip((keys[at] for at in new), find(new) if new else [], strict=True))
        for key in keys:
            self._kept[key] = known[key]
            self._kept.move_to_end(key)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return [known[key] for key in keys]


class RememberedFaces:
    """Face model that looks at each picture once, a `FaceScorer`."""

    def __init__(self, face: FaceScorer) -> None:
        self._face = face
        self._seen: _Memory[tuple[Tensor, bool]] = _Memory()

    @property
    def name(self) -> str:
        """Name in the report."""
        return self._face.name

    @property
    def threshold(self) -> float:
        """Cosine, -1..1, at or above which two faces count as one person."""
        return self._face.threshold

    @property
    def far(self) -> float:
        """False-accept rate at `threshold`, 0..1."""
        return self._face.far

    @property
    def threshold_from(self) -> str:
        """Source of a threshold that was never measured with this model's crop; empty: it was measured."""
        return self._face.threshold_from

    def embed(self, images: Tensor) -> FaceEmbeddings:
        """Embed the face of each picture `[N, 3, H, W]` in 0..1, as the model behind does."""
        if not len(images):
            return self._face.embed(images)

        def look(places: list[int]) -> list[tuple[Tensor, bool]]:
            faces = self._face.embed(images[places])
            return list(zip(faces.vectors.unbind(), faces.found, strict=True))

        seen = self._seen.of(_keys(images), look)
        return FaceEmbeddings(torch.stack([vector for vector, _ in seen]), tuple(found for _, found in seen))


class RememberedClip:
    """CLIP model that looks at each picture and text once, a `ClipScorer`."""

    def __init__(self, clip: ClipScorer) -> None:
        self._clip = clip
        self._pictures: _Memory[Tensor] = _Memory()
        self._texts: _Memory[Tensor] = _Memory()

    @property
    def name(self) -> str:
        """Name in the report."""
        return self._clip.name

    def image_embeddings(self, images: Tensor) -> Tensor:
        """Embed pictures `[N, 3, H, W]` in 0..1 as unit vectors `[N, d]`, float32 on the CPU."""
        if not len(images):
            return self._clip.image_embeddings(images)
        vectors = self._pictures.of(
            _keys(images), lambda places: list(self._clip.image_embeddings(images[places]).unbind())
        )
        return torch.stack(vectors)

    def text_embeddings(self, texts: list[str]) -> Tensor:
        """Embed N texts as unit vectors `[N, d]`, float32 on the CPU."""
        if not texts:
            return self._clip.text_embeddings(texts)
        vectors = self._texts.of(
            [text.encode() for text in texts],
            lambda places: list(self._clip.text_embeddings([texts[at] for at in places]).unbind()),
        )
        return torch.stack(vectors)


def _keys(images: Tensor) -> list[bytes]:
    """Hash every picture `[N, 3, H, W]`, with its size and type."""
    kind = f"{images.dtype} {tuple(images.shape[1:])}".encode()
    return [
        hashlib.blake2b(picture.contiguous().numpy(), key=hashlib.blake2b(kind).digest()).digest()
        for picture in images.detach().cpu()
    ]

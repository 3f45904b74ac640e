"""Scorers that look at a picture once."""

import pytest
import torch

from loraudit.base.load import load_base
from loraudit.base.model import CLASS_PROMPT, Sampling
from loraudit.cards import artefact
from loraudit.scores import remembered
from loraudit.scores.face import load_tiny_face
from loraudit.scores.remembered import RememberedClip, RememberedFaces
from loraudit.scores.scorers import open_scorers
from tests.audits import ColourFace

PICTURES = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))


class Counting(ColourFace):
    """A face model, and a CLIP model, that knows how many pictures and texts it was shown."""

    def __init__(self):
        self.seen = 0

    def embed(self, images):
        self.seen += len(images)
        return super().embed(images)

    def image_embeddings(self, images):
        return self.embed(images).vectors

    def text_embeddings(self, texts):
        self.seen += len(texts)
        return torch.tensor([[float(len(text))] for text in texts])


def test_a_picture_is_looked_at_once_whatever_stands_beside_it() -> None:
    plain, counted = ColourFace(), Counting()
    face = RememberedFaces(counted)
    first = face.embed(PICTURES[:4])
    assert counted.seen == 4
    again = face.embed(torch.cat([PICTURES[2:], PICTURES[:1], PICTURES[5:]]))
    assert counted.seen == 6
    assert torch.equal(first.vectors[2:], again.vectors[:2])
    shown = torch.cat([PICTURES[2:], PICTURES[:1], PICTURES[5:]])
    assert torch.allclose(again.vectors, plain.embed(shown).vectors)
    assert again.found == plain.embed(shown).found
    assert (face.name, face.threshold, face.far) == (plain.name, plain.threshold, plain.far)


def test_one_pixel_a_type_or_a_shape_makes_another_picture() -> None:
    counted = Counting()
    face = RememberedFaces(counted)
    changed = PICTURES.clone()
    changed[0, 0, 0, 0] += 1e-6
    for pictures in (PICTURES, changed, PICTURES.double(), PICTURES.reshape(6, 3, 32, 128)):
        face.embed(pictures)
    assert counted.seen == 6 + 1 + 6 + 6


def test_a_picture_twice_in_one_call_and_none_at_all() -> None:
    counted = Counting()
    face = RememberedFaces(counted)
    twice = face.embed(PICTURES[:1].expand(3, -1, -1, -1))
    assert counted.seen == 1 and len(twice.found) == 3
    assert face.embed(PICTURES[:0]).found == ()
    broken = torch.full((2, 3, 4, 4), torch.nan)
    assert face.embed(broken).vectors.shape == (2, 3)


def test_clip_remembers_pictures_and_texts() -> None:
    counted = Counting()
    clip = RememberedClip(counted)
    for _ in range(2):
        assert clip.image_embeddings(PICTURES).shape == (6, 3)
        assert clip.text_embeddings(["a", "bcd"]).tolist() == [[1.0], [3.0]]
    assert counted.seen == 6 + 2
    assert len(clip.image_embeddings(PICTURES[:0])) == len(clip.text_embeddings([])) == 0


def test_memory_is_bounded_and_forgets_what_was_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "KEPT", 3)
    counted = Counting()
    face = RememberedFaces(counted)
    face.embed(PICTURES[:3])
    face.embed(PICTURES[:1])
    face.embed(PICTURES[3:4])
    assert counted.seen == 4
    face.embed(PICTURES[[0, 2, 3]])
    assert counted.seen == 4
    face.embed(PICTURES[1:2])
    assert counted.seen == 5
    # A call of more than it keeps is answered whole.
    assert torch.allclose(face.embed(PICTURES).vectors, ColourFace().embed(PICTURES).vectors)


def test_the_scorers_of_a_scan_remember() -> None:
    base = load_base("tiny")
    scorers, gaps = open_scorers(base.card.face, base.card.clip, CLASS_PROMPT, base.device, offline=True)
    assert scorers is not None and gaps == ()
    assert isinstance(scorers.face, RememberedFaces) and isinstance(scorers.clip, RememberedClip)
    plain = load_tiny_face(artefact("tiny-face"))
    pictures = base.sample(base.encode_text([CLASS_PROMPT]), range(3), Sampling(4, 3.0))
    one, other = plain.embed(pictures), scorers.face.embed(pictures)
    assert one.found == other.found and torch.allclose(one.vectors, other.vectors, atol=1e-6)

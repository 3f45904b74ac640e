"""What a base draws for a calibration: chosen by faces, kept as photos are, and the same every time."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from loraudit.base.model import Sampling
from loraudit.errors import Incomplete, LorauditError
from loraudit.people.cast import PEOPLE, open_cast
from loraudit.people.drawn import Drawn
from loraudit.people.identity import SPLITS
from loraudit.people.portrayed import _FIRST
from loraudit.scores import FaceEmbeddings
from loraudit.training.drawer import PHOTOS, Drawer, _nearest, pictures_for
from tests.audits import ColourFace
from tests.tiny import tiny_base

KINDS = (PEOPLE, "crowds", "styles", "things")
QUICK = Sampling(steps=1, guidance=2.0)


class Script:
    """A cast of one word that remembers what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def prompts(self, _kind, number, count):
        self.asked.append(number)
        return tuple(f"face {number}" for _ in range(count))

    def told(self, _kind, _number, count):
        return tuple(f" {at}" for at in range(count))

    def finished(self, _kind, _number, drawn, _count, _size):
        return drawn


class Rules(ColourFace):
    """A face model that finds a face where it is told to, by the place of a picture."""

    def __init__(self, vectors: list[tuple[float, float]]) -> None:
        self.vectors = torch.tensor(vectors)

    def embed(self, images):
        rows = self.vectors[: len(images)]
        return FaceEmbeddings(rows, tuple((rows.norm(dim=1) > 0).tolist()))


def drawer(face, cast=None) -> Drawer:
    return Drawer(tiny_base(), cast or Script(), face, QUICK, seed=0)


@pytest.mark.parametrize("cast", ["portraits", "photographs"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_person_stays_and_everybody_else_varies(cast, kind) -> None:
    one = open_cast(cast)
    prompts, again, more = (one.prompts(kind, 7, count) for count in (6, 6, 9))
    assert prompts == again == more[:6]
    assert one.told(kind, 7, 9)[:6] == one.told(kind, 7, 6)
    if (cast, kind) == ("portraits", "things"):
        assert prompts == ()
        return
    assert set(prompts).isdisjoint(one.prompts(kind, 8, 6))
    if cast == "photographs":
        who = {prompt.split(" of ", 1)[1].split(",")[0] for prompt in prompts}
        # A person keeps the name, a thing its looks; in crowds and styles every picture shows another.
        assert len(who) == (1 if kind in (PEOPLE, "things") else 6)
        assert len(set(prompts)) >= 5
    else:
        assert len(set(prompts)) == (1 if kind == PEOPLE else 6)


def test_nobody_of_a_split_is_made_up() -> None:
    assert min(_FIRST.values()) >= max(seeds.stop for seeds in SPLITS.values())


def test_pictures_come_back_as_they_were_kept(tmp_path: Path) -> None:
    drawn = Drawn(tmp_path / "people", PEOPLE)
    assert not drawn.has(3)
    pictures = torch.rand(5, 3, 16, 16)
    drawn.keep(3, pictures[:2], (" a", " b"), pictures[2:])
    assert drawn.has(3) and not drawn.has(4)
    assert torch.allclose(drawn.pictures(3, 16), pictures[:2], atol=1 / 255)
    assert torch.allclose(drawn.photos(3, 16), pictures[2:], atol=1 / 255)
    assert len(drawn.pictures(3, 16, 1)) == 1 and drawn.captions(3, 1) == (" a",)
    (tmp_path / "people" / "people-0003" / "captions.json").write_text("{")
    for damaged in (lambda: drawn.captions(3, 1), lambda: drawn.pictures(4, 16), lambda: drawn.train(1, 0)):
        with pytest.raises(LorauditError):
            damaged()


def test_the_nearest_to_the_face_of_most_are_kept_and_photos_have_it() -> None:
    right, near, other, none = (1.0, 0.0), (0.998, 0.0632), (0.0, 1.0), (0.0, 0.0)
    vectors = torch.tensor([none, other, right, near, right, right, none, right])
    faces = FaceEmbeddings(vectors, tuple((vectors.norm(dim=1) > 0).tolist()))
    chosen, alike = _nearest(faces, 0.99, 5)
    assert sorted(chosen) == [2, 3, 4, 5, 7] and alike == 1.0
    assert 3 not in chosen[-PHOTOS:]
    assert _nearest(faces, 0.99, 7)[1] == 5 / 7
    blind = FaceEmbeddings(torch.zeros(8, 2), (False,) * 8)
    assert _nearest(blind, 0.99, 5) == ([0, 1, 2, 3, 4], 0.0)


def test_who_does_not_look_alike_is_made_up_anew(tmp_path: Path) -> None:
    apart = [(torch.cos(torch.tensor(a)).item(), torch.sin(torch.tensor(a)).item()) for a in range(6)]
    script = Script()
    with pytest.raises(Incomplete, match="draws nobody whose face"):
        drawer(Rules(apart), script).draw(Drawn(tmp_path, PEOPLE), 5, 1)
    assert script.asked == [5, 100_005, 200_005]
    script = Script()
    drawer(Rules([(1.0, 0.0)] * 6), script).draw(Drawn(tmp_path, PEOPLE), 5, 1)
    assert script.asked == [5] and Drawn(tmp_path, PEOPLE).has(5)


def test_things_are_without_a_face_and_crowds_with_one(tmp_path: Path) -> None:
    face = Rules([(1.0, 0.0), (0.0, 0.0), (1.0, 0.0)])
    assert pictures_for("things", 2) == pictures_for("crowds", 2) == 3 and pictures_for("styles", 2) == 2
    for kind, told in (("things", (" 0", " 1")), ("crowds", (" 0", " 2")), ("styles", (" 0", " 1"))):
        drawn = Drawn(tmp_path / kind, kind)
        drawer(face).draw(drawn, 0, 2)
        assert drawn.captions(0, 9) == told


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_number_is_the_same_picture_whatever_else_is_drawn(kind, tmp_path: Path) -> None:
    for cast in ("portraits", "photographs"):
        folders = [Drawn(tmp_path / cast / name, kind) for name in "ab"]
        for folder, numbers in zip(folders, ((0, 1), (1,)), strict=True):
            for number in numbers:
                drawer(ColourFace(), open_cast(cast)).draw(folder, number, 2)
        first, second = (folder.pictures(1, 16) for folder in folders)
        assert torch.equal(first, second) and first.shape == (2, 3, 16, 16)
        assert not torch.equal(folders[0].pictures(0, 16), first)


def test_broken_pictures_are_told(tmp_path: Path, monkeypatch) -> None:
    base = tiny_base()
    broken = replace(base)
    monkeypatch.setattr(type(base), "solve", lambda *_: torch.full((3, 3, 16, 16), torch.nan))
    with pytest.raises(Incomplete, match="no numbers on cpu"):
        Drawer(broken, Script(), ColourFace(), QUICK, 0).draw(Drawn(tmp_path, "crowds"), 0, 2)

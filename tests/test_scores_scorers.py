"""Pictures to numbers."""

import dataclasses

import pytest
import torch

from loraudit.attacks.aim import Aim, Reconstruction
from loraudit.errors import LorauditError
from loraudit.scores.scorers import Scorers, look_at
from loraudit.verdict.judge import judge_identity
from tests.audits import ColourFace

RED, GREEN, BLACK = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 0.0)


def paint(*colours):
    return torch.tensor(colours)[:, :, None, None].expand(-1, 3, 8, 8).clone()


class ColourClip:
    name = "colour"

    def image_embeddings(self, images):
        colours = images.mean((2, 3))
        return colours / colours.norm(dim=1, keepdim=True)

    def text_embeddings(self, texts):
        return torch.tensor([RED] * len(texts))


def reconstruction(tuned, base):
    aim, seeds = Aim("a", torch.zeros(2, 2), False, ("q",)), tuple(range(len(tuned)))
    return Reconstruction(aim, seeds, tuned, base, base.flip(0))


def test_faces_pairs_and_cross_are_in_order() -> None:
    evidence = reconstruction(paint(RED, BLACK, GREEN, RED), paint(BLACK, BLACK, BLACK, RED)).weighed(
        Scorers(ColourFace())
    )
    assert (evidence.tuned.pictures, evidence.tuned.found) == (4, 3)
    assert evidence.tuned.pairs == (0.0, 1.0, 0.0)
    assert evidence.tuned.where == (0, 2, 3)
    assert (evidence.scrambled.found, evidence.scrambled.where) == (1, (0,))
    assert evidence.scrambled_cross == (1.0, 0.0, 1.0)
    assert evidence.tuned.to_reference is None
    assert (evidence.base.found, evidence.base.pairs) == (1, ())
    assert evidence.cross == (1.0, 0.0, 1.0)
    assert (evidence.attack, evidence.aims_at_face, evidence.quotes) == ("a", False, ("q",))
    assert (evidence.threshold, evidence.far, evidence.readings) == (0.99, 1e-3, ())


def test_references_are_compared_with_both_sides() -> None:
    face, clip = ColourFace(), ColourClip()
    photos = [paint(RED)[0], torch.zeros(3, 5, 7), paint(GREEN)[0]]
    references = look_at([photos[0], photos[1]], face, None)
    assert (references.faces, references.photos, references.clip) == (1, 2, None)
    references = look_at([photos[0], photos[2]], face, clip)
    evidence = reconstruction(paint(RED, GREEN), paint(BLACK, RED)).weighed(Scorers(face, clip, references))
    assert evidence.tuned.to_reference == pytest.approx((0.5**0.5, 0.5**0.5))
    assert evidence.base.to_reference == pytest.approx((0.5**0.5,))
    told = {(reading.name, reading.against): reading for reading in evidence.readings}
    assert told["clip-i", "reference"].values == pytest.approx((0.5, 0.5))
    assert told["clip-i", "each other"].values == (0.0,)
    assert told["clip-t", "class prompt"].values == (1.0, 0.0)


def test_photos_are_looked_for_among_the_pictures_and_change_nothing_else() -> None:
    face = ColourFace()
    photos = [paint(RED)[0], torch.zeros(3, 5, 7)]
    scorers = Scorers(face, None, look_at(photos, face, None))
    evidence = reconstruction(paint(RED, GREEN), paint(BLACK, (0.9, 0.0, 0.0))).weighed(scorers)
    assert evidence.copies is not None and evidence.copies.tuned[0][0] == 0
    assert [len(rows) for rows in (evidence.copies.tuned, evidence.copies.base)] == [2, 2]
    assert evidence.copies.controls and all(len(row) == len(photos) for row in evidence.copies.controls)
    without = dataclasses.replace(evidence, copies=None)
    assert judge_identity([evidence]) == judge_identity([without])
    assert reconstruction(paint(RED), paint(BLACK)).weighed(Scorers(face)).copies is None


def test_the_agreed_face_has_a_place_among_others() -> None:
    face = ColourFace()
    red, green = (face.embed(paint(colour)).vectors for colour in (RED, GREEN))
    references = look_at([paint(RED)[0]], face, None, torch.cat([green, green, red * 0.5]))
    scorers = Scorers(face, None, references)
    found = reconstruction(paint(RED, RED, GREEN), paint(GREEN, BLACK)).weighed(scorers)
    told = {one.name: one for one in found.readings}
    assert (told["consensus"].values, told["consensus"].base_values) == ((1.0,), (0.0,))
    assert told["rank"].against == "reference among 4"
    # The base's agreed face is green: both green decoys come before the person.
    assert (told["rank"].values, told["rank"].base_values) == ((1.0,), (3.0,))
    found = reconstruction(paint(BLACK), paint(BLACK)).weighed(scorers)
    nobody = {one.name: one for one in found.readings}
    assert nobody["rank"].values == nobody["consensus"].values == ()


def test_no_face_in_the_references_is_an_error() -> None:
    with pytest.raises(LorauditError, match="no face in any of the 2 reference photos"):
        look_at([torch.zeros(3, 8, 8)] * 2, ColourFace(), None)


def test_a_broken_picture_is_no_face_and_no_number() -> None:
    broken = paint(RED, RED) * torch.tensor([1.0, torch.nan])[:, None, None, None]
    evidence = reconstruction(broken, paint(RED, RED)).weighed(Scorers(ColourFace(), ColourClip()))
    assert (evidence.tuned.found, evidence.tuned.pairs) == (1, ())
    assert {reading.name: len(reading.values) for reading in evidence.readings} == {"clip-i": 0, "clip-t": 1}
    assert {reading.name: len(reading.base_values) for reading in evidence.readings} == {
        "clip-i": 1,
        "clip-t": 2,
    }

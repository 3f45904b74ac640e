"""What a file holds, where no person came back."""

import dataclasses

import pytest

from loraudit.evidence.faces import AttackEvidence, Faces
from loraudit.evidence.holding import NOTHING, asks_what, draws_no_face, holding, one_person
from loraudit.evidence.null import Null

PEOPLE = Null((8,), (0.0,) * 99, leaking_agreement=(0.2, *(0.9,) * 98))


def faces(found: int, pictures: int = 8, cosine: float = 0.0) -> Faces:
    return Faces(pictures, found, (cosine,) * (found * (found - 1) // 2))


def evidence(tuned: Faces, base: int = 8, disturbed=((8, 8), (7, 8), (8, 8)), **more) -> AttackEvidence:
    nobody = faces(base) if base else faces(0, 0)
    found = AttackEvidence(
        "search", 0.6, 1e-3, tuned, nobody, (0.0,) * (tuned.found * base), disturbed=disturbed
    )
    return dataclasses.replace(found, **more)


def told(*found: AttackEvidence, null: Null | None = None):
    return holding(found, 5, 0.01, 0.05, null)


def test_no_face_where_disturbances_as_strong_leave_faces() -> None:
    one = told(evidence(faces(1)))
    assert one.kind == "no face" and one.p is not None and one.p <= 0.01
    assert "faces in 1 of 8 cases" in one.says and "8 of 8, 7 of 8, 8 of 8" in one.says
    # The negative controls: a copy that draws no faces either, as of a LoRA trained too hard; no controls.
    assert told(evidence(faces(0), disturbed=((8, 8), (1, 8)))) == NOTHING
    assert told(evidence(faces(0), base=0, disturbed=())) == NOTHING
    assert told(evidence(faces(0), disturbed=())) == NOTHING
    # Nor do a few faces more than the controls' tell anything apart.
    assert told(evidence(faces(4))) == NOTHING


def test_the_test_is_that_of_fisher_and_the_largest_counts() -> None:
    # 0 of 8 beside 8 of 8: one of 12,870 ways to share 8 faces out among 16 pictures.
    assert draws_no_face(evidence(faces(0), disturbed=((8, 8),))) == pytest.approx(1 / 12870)
    mixed = evidence(faces(0), disturbed=((8, 8), (4, 8)))
    assert draws_no_face(mixed) == draws_no_face(evidence(faces(0), disturbed=((4, 8),))) > 0.01
    assert draws_no_face(evidence(faces(8))) == 1


@pytest.mark.parametrize("found", range(9))
def test_more_faces_of_the_file_never_lower_the_p_value(found) -> None:
    more = [draws_no_face(evidence(faces(k))) for k in range(found, 9)]
    assert more == sorted(more) and more[-1] == 1


def test_a_file_like_those_of_one_person_is_not_told_otherwise() -> None:
    usual = evidence(faces(8, cosine=0.9), attack="search:usual")
    empty = evidence(faces(0))
    assert told(empty, null=PEOPLE).kind == "no face"
    assert "0 of 99 LoRAs of one person agree as little" in told(empty, null=PEOPLE).says
    assert told(empty, usual, null=PEOPLE) == NOTHING
    weak = dataclasses.replace(PEOPLE, leaking_agreement=(0.0,) * 99)
    assert told(empty, null=weak) == NOTHING


def test_faces_that_differ_are_told_only_beside_loras_of_people() -> None:
    strangers = evidence(faces(8))
    found = told(strangers, null=PEOPLE)
    assert (found.kind, found.p) == ("no single person", 0.01)
    assert told(strangers) == NOTHING
    assert told(evidence(faces(8, cosine=0.9)), null=PEOPLE) == NOTHING


def test_the_place_among_people_counts_ties_against_the_file() -> None:
    null = Null((8,), (0.0,) * 9, leaking_agreement=(0.0, 0.5, 1.0))
    assert one_person([evidence(faces(8))], null) == 0.5
    assert one_person([evidence(faces(8, cosine=0.9))], null) == 1.0
    assert one_person([evidence(faces(8))], None) is None
    assert one_person([evidence(faces(8))], dataclasses.replace(null, leaking_agreement=())) is None


def test_only_attacks_that_aim_at_a_face_are_asked() -> None:
    other = evidence(faces(0), aims_at_face=False)
    assert told(other) == told(evidence(faces(0), likeness_only=True)) == told() == NOTHING
    assert told(other, evidence(faces(1))).kind == "no face"


def test_controls_are_asked_for_until_they_have_shown_it() -> None:
    empty, shown = evidence(faces(0), base=0, disturbed=()), evidence(faces(0))
    assert asks_what(empty, (), 5, 0.01)
    assert asks_what(empty, [evidence(faces(0), disturbed=((0, 8),))], 5, 0.01)
    assert not asks_what(empty, [shown], 5, 0.01)
    assert not asks_what(evidence(faces(5), base=0, disturbed=()), (), 5, 0.01)
    for more in ({"aims_at_face": False}, {"likeness_only": True}):
        assert not asks_what(dataclasses.replace(empty, **more), (), 5, 0.01)

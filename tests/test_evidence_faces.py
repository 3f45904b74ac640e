"""Evidence that contradicts itself is refused, and what a shorter scan sees is its beginning."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraudit.evidence.faces import AttackEvidence, Faces
from loraudit.evidence.intervals import Share
from loraudit.evidence.statistics import accepted_share, agreement_share
from tests.seen import THRESHOLD, of_people, seen, strangers_to


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"pictures": 2, "found": 3, "pairs": (0.1,) * 3, "where": None}, "3 faces found in 2 pictures$"),
        ({"pictures": 2, "found": -1, "where": None}, "-1 faces found in 2 pictures$"),
        ({"found": 3, "pairs": (0.1,) * 2, "where": None}, "pairs: 2 cosines where 3 were due"),
        ({"found": 3, "pairs": (0.1,) * 4, "where": None}, "pairs: 4 cosines where 3 were due"),
        (
            {"found": 3, "pairs": (0.1, math.inf, 0.1), "where": None},
            "pairs: a cosine is not a finite number",
        ),
        ({"to_reference": (0.1,)}, "to_reference: 1 cosines where 2 were due"),
        ({"to_reference": (0.1, math.nan)}, "to_reference: a cosine is not a finite number"),
        ({"where": (0,)}, "cannot be"),
        ({"where": (1, 0)}, "cannot be"),
        ({"where": (1, 1)}, "cannot be"),
        ({"where": (1, 4)}, "cannot be"),
        ({"where": (-1, 0)}, "cannot be"),
    ],
)
def test_faces_that_cannot_be_are_refused(fields, why):
    whole = {"pictures": 4, "found": 2, "pairs": (0.1,), "to_reference": (0.1, 0.2), "where": (1, 3)}
    assert Faces(**whole).where == (1, 3)
    with pytest.raises(ValueError, match=why):
        Faces(**whole | fields)


def test_all_and_none_of_the_pictures_may_show_a_face():
    assert Faces(0, 0, ()).first(3) == Faces(0, 0, (), None, ())
    assert Faces(2, 2, (0.5,), where=(0, 1)).found == 2
    assert Faces(2, 0, (), (), ()).where == ()


WHOLE = strangers_to([0] * 4, (0.5,) * 4, 0.0)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"far": 0.0}, "false-accept rate"),
        ({"far": 1.0}, "false-accept rate"),
        ({"far": -0.1}, "false-accept rate"),
        ({"cross": (0.1,) * 15}, "cross: 15 cosines where 16"),
        ({"cross": (0.1,) * 15 + (math.nan,)}, "cross: a cosine"),
        ({"scrambled_cross": ()}, "scrambled_cross: 0 cosines where 16"),
        ({"scrambled": None}, "scrambled_cross: 16 cosines where 0"),
        ({"base": dataclasses.replace(WHOLE.base, to_reference=None)}, "alike"),
        ({"tuned": dataclasses.replace(WHOLE.tuned, to_reference=None)}, "alike"),
    ],
)
def test_evidence_that_cannot_be_is_refused(changes, why):
    with pytest.raises(ValueError, match=why):
        dataclasses.replace(WHOLE, **changes)
    assert dataclasses.replace(WHOLE, far=0.5).far == 0.5


def test_against_the_scrambled_lora_it_takes_the_base_models_place():
    other = WHOLE.against_scrambled
    assert (other.tuned, other.base, other.scrambled) == (WHOLE.tuned, WHOLE.scrambled, None)
    assert other.cross == WHOLE.scrambled_cross and other.scrambled_cross == ()
    assert other.against_scrambled is None


people = st.lists(st.sampled_from([0, 0, 1, 2, None]), min_size=1, max_size=7)


@given(people, st.integers(0, 8), st.data())
def test_the_first_pictures_are_what_fewer_would_have_shown(who, pictures, data):
    cosines = data.draw(st.lists(st.floats(-1, 1), min_size=len(who), max_size=len(who)))

    def whole(n):
        to_reference = tuple(c for c, one in zip(cosines[:n], who[:n], strict=True) if one is not None)
        return dataclasses.replace(of_people(who[:n]), to_reference=to_reference)

    assert whole(len(who)).first(pictures) == whole(min(pictures, len(who)))


def test_faces_whose_place_is_not_known_are_on_the_first_pictures():
    faces = Faces(6, 3, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert faces.first(2) == Faces(2, 2, (0.1,), (0.4, 0.5), (0, 1))
    assert faces.first(5) == Faces(5, 3, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), (0, 1, 2))


def test_a_cosine_at_the_threshold_is_a_match_and_one_below_is_none():
    at, below = Faces(3, 2, (0.5,), (0.5, 0.49)), Faces(3, 2, (0.49,), (0.49, 0.49))
    assert [agreement_share(faces, 0.5).k for faces in (at, below)] == [1, 0]
    assert [accepted_share(faces, 0.5).k for faces in (at, below)] == [1, 0]
    assert accepted_share(at, 0.5).n == 3
    assert agreement_share(Faces(3, 1, ()), 0.5) == Share(0, 0, 0.0, 1.0)
    assert (Share(0, 0, 0.0, 1.0).value, Share(1, 4, 0.0, 1.0).value) == (0.0, 0.25)


def test_the_interval_is_that_of_pairs_that_share_no_picture():
    assert [agreement_share(of_people([0] * n), THRESHOLD).low for n in (4, 5)] == [
        pytest.approx(0.34238, abs=1e-5)
    ] * 2
    assert agreement_share(of_people([0] * 6), THRESHOLD).low == pytest.approx(0.43850, abs=1e-5)


def test_evidence_without_a_control_says_so():
    whole = seen([0, 0])
    bare = AttackEvidence("a", THRESHOLD, 1e-3, whole.tuned, whole.base, whole.cross)
    assert bare.against_scrambled is None
    assert (bare.aims_at_face, bare.likeness_only, bare.quotes, bare.readings) == (True, False, (), ())

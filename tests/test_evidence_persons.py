"""People among faces: couples, three siblings and a family of look-alikes are counted, noise is not."""

import random
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from loraudit.cards import artefact
from loraudit.evidence.faces import Faces
from loraudit.evidence.persons import persons
from loraudit.evidence.statistics import agreement_share
from loraudit.people.sources import portraits
from loraudit.scores.face import load_tiny_face
from loraudit.scores.scorers import Scorers
from tests.seen import OTHER, SAME, THRESHOLD, of_people

FAMILY = 160_000
"""First of four look-alikes, in a split that no other test draws from."""


def counted(faces, threshold=THRESHOLD):
    return [person.pictures for person in persons(faces, threshold)]


@pytest.mark.parametrize(
    ("people", "found"),
    [
        ("aaaaaaaa", [8]),
        ("aaaabbbb", [4, 4]),
        ("abababab", [4, 4]),
        ("aaabbbccc", [3, 3, 3]),
        ("aaaaaabbbbbbwxyz", [6, 6]),
        ("aaaaaabbwxyz", [6]),
        ("abcdefgh", []),
        ("aabbccdd", []),
        ("aa", []),
        ("", []),
    ],
)
def test_each_person_is_counted_with_their_pictures(people, found) -> None:
    assert counted(of_people(list(people))) == found


def test_everybody_belongs_to_somebody_and_pictures_without_a_face_to_nobody() -> None:
    faces = of_people(["a", None, "b", "a", "b", None, "a", "b", "x"])
    first, second = persons(faces, THRESHOLD)
    assert sorted(first.faces + second.faces) == list(range(7))
    assert {0, 2, 4} <= set(first.faces) and {1, 3, 5} <= set(second.faces)


@given(st.lists(st.sampled_from("aaaabcdefgh"), max_size=16))
def test_the_pictures_of_one_person_are_as_many_as_their_pairs_stand_for(people) -> None:
    faces = of_people(people)
    found = persons(faces, THRESHOLD)
    if len(found) != 1:
        return
    k = found[0].pictures
    matching = sum(cosine >= THRESHOLD for cosine in faces.pairs)
    assert k * (k - 1) / 2 <= matching < k * (k + 1) / 2
    assert agreement_share(faces, THRESHOLD, found) == agreement_share(faces, THRESHOLD)


def test_pairs_of_two_people_are_left_out_of_the_share() -> None:
    faces = of_people(list("aaaaaabbbbbbwxyz"))
    share = agreement_share(faces, THRESHOLD, persons(faces, THRESHOLD))
    assert agreement_share(faces, THRESHOLD).value == 30 / 120
    # Four strangers are counted with those that they are most like, of equal ones with the first.
    assert (share.k, share.n) == (30, 45 + 15) and share.value == 0.5


def noisy(rng, count, within, between, halves):
    """Cosines around `within` inside either half of the pictures, around `between` across them."""
    pairs = tuple(
        max(-1.0, min(1.0, rng.gauss(within if (i < halves) == (j < halves) else between, 0.08)))
        for i, j in combinations(range(count), 2)
    )
    return Faces(count, count, pairs)


def test_noise_makes_no_second_person_and_distance_does() -> None:
    rng = random.Random(1)
    for within, between, people in ((0.7, 0.55, 1), (0.6, 0.5, 1), (0.7, 0.1, 2), (0.8, 0.4, 2)):
        found = [len(persons(noisy(rng, 16, within, between, 8), THRESHOLD)) for _ in range(40)]
        assert found.count(people) >= 39


@pytest.fixture(scope="module")
def scorers() -> Scorers:
    return Scorers(load_tiny_face(artefact("tiny-face")))


def pictures(*people):
    """Portraits of these people, `(identity, how many)` each."""
    return torch.cat([torch.stack(tuple(portraits(who, 40, count))) for who, count in people])


@pytest.mark.parametrize("first", [FAMILY, FAMILY + 24, FAMILY + 48])
def test_portraits_of_couples_and_siblings_are_told_apart(first, scorers) -> None:
    threshold = scorers.face.threshold

    def of(*people):
        return counted(scorers.faces(pictures(*people)), threshold)

    assert of((first, 12)) == [12]
    assert of((first, 8), (first + 8, 8)) == [8, 8]
    assert of((first, 10), (first + 8, 4)) == [10, 4]
    assert of((first, 6), (first + 1, 6)) == [6, 6]  # look-alikes
    assert of((first, 5), (first + 1, 5), (first + 2, 5)) == [5, 5, 5]
    assert of(*((first + 8 * k, 1) for k in range(10))) == []


def test_matching_and_not_matching_are_what_the_words_say() -> None:
    assert OTHER < THRESHOLD <= SAME

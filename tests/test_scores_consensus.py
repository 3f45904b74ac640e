"""The face that pictures agree on."""

import torch
from torch.nn import functional as F

from loraudit.scores.consensus import consensus


def noisy(person: torch.Tensor, count: int, spread: float, seed: int) -> torch.Tensor:
    noise = torch.randn(count, len(person), generator=torch.Generator().manual_seed(seed))
    return F.normalize(person + spread * noise / len(person) ** 0.5, dim=1)


def strangers(count: int, seed: int) -> torch.Tensor:
    drawn = torch.randn(count, 128, generator=torch.Generator().manual_seed(seed))
    return F.normalize(drawn, dim=1)


def test_the_agreed_face_is_nearer_to_the_person_than_the_pictures_are() -> None:
    person = strangers(1, 0)[0]
    vectors = torch.cat([strangers(4, 1), noisy(person, 6, 0.8, 2)])
    found = consensus(vectors, 0.5)
    assert found is not None
    assert found.pictures == tuple(range(4, 10))
    assert found.face @ person > (vectors[4:] @ person).max()


def test_pictures_without_a_face_join_nobody() -> None:
    person = strangers(1, 0)[0]
    vectors = noisy(person, 5, 0.5, 3)
    vectors[2] = 0
    found = consensus(vectors, 0.5)
    assert found is not None
    assert found.pictures == (0, 1, 3, 4)
    assert consensus(torch.zeros(3, 128), 0.5) is None


def test_strangers_agree_on_nothing() -> None:
    vectors = strangers(8, 5)
    found = consensus(vectors, 0.5)
    assert found is not None
    assert len(found.pictures) == 1


def test_the_larger_group_wins_whatever_the_order() -> None:
    two = strangers(2, 6)
    vectors = torch.cat([noisy(two[0], 3, 0.5, 7), noisy(two[1], 5, 0.5, 8)])
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    found, shuffled = consensus(vectors, 0.5), consensus(vectors[order], 0.5)
    assert found is not None
    assert shuffled is not None
    assert found.pictures == (3, 4, 5, 6, 7)
    assert torch.allclose(found.face, shuffled.face, atol=1e-6)

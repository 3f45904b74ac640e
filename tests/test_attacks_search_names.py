"""The cloud of made-up names: its points are where names are, and its slopes are slopes."""

import torch

from loraudit.attacks.prompts import name_prompt
from loraudit.attacks.search.names import FRAMES, names_in, random_names
from loraudit.base.load import load_base
from tests.tiny import tiny_base


def test_directions_are_as_long_as_names_vary_and_at_right_angles() -> None:
    base, frame = tiny_base(), FRAMES[0]
    names = names_in(base, frame, 60)
    embeddings = random_names(base, frame, 60, 0)
    torch.testing.assert_close(names.mean, embeddings.mean(0))
    flat = names.directions.flatten(1)
    squares = flat @ flat.T
    kept = squares.diagonal() > 1e-6 * squares.diagonal().max()
    off = squares - squares.diagonal().diag()
    assert off.abs().max() < 1e-3 * squares.diagonal().max()
    along = ((embeddings - names.mean).flatten(1) @ flat.T)[:, kept] / squares.diagonal()[kept]
    torch.testing.assert_close(along.square().mean(0), torch.ones(int(kept.sum())), rtol=1e-2, atol=1e-2)


def test_a_slope_along_the_directions_is_that_of_the_embedding() -> None:
    names = names_in(tiny_base(), FRAMES[1], 30)
    places = torch.randn(len(names.directions), generator=torch.Generator().manual_seed(1)).requires_grad_()
    names.at(places).square().sum().backward()
    embedding = names.at(places.detach())
    assert places.grad is not None
    torch.testing.assert_close(names.along(2 * embedding), places.grad, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_names_stand_where_the_sentence_has_its_name() -> None:
    """Before the name all is as in the sentence; the closing words follow however long the name is."""
    base = load_base("tiny")
    plain = base.encode_text([name_prompt("zwqkx")])[0]
    for one in random_names(base, FRAMES[0], 3, 0):
        torch.testing.assert_close(one[:4], plain[:4], rtol=1e-4, atol=1e-4)
        assert (one[4] - plain[4]).norm() > 1e-2 * plain[4].norm()


def test_the_same_seed_gives_the_same_names() -> None:
    one, again, other = (random_names(tiny_base(), FRAMES[0], 6, seed) for seed in (4, 4, 5))
    assert torch.equal(one, again) and not torch.equal(one, other)

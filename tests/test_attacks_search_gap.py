"""The climb stays on what the text tower can say, rises, and keeps its hands off the base."""

import dataclasses

import pytest
import torch

from loraudit.attacks.prompts import name_prompt
from loraudit.attacks.search import gap as module
from loraudit.attacks.search import mixtures
from loraudit.attacks.search.gap import Climb, climb, gap, gaps
from loraudit.attacks.search.mixtures import PLACES, mixed, name_frame, spelt, word_pieces
from loraudit.base.lowrank import stack
from loraudit.lora import Factors
from tests.audits import random_lora
from tests.tiny import tiny_base

QUICK = Climb(restarts=2, steps=12, noises=2)


def noises(seed=7):
    return module.noised(tiny_base(), 16, torch.Generator().manual_seed(seed))


@torch.no_grad()
def heights(terms, prompts):
    base = tiny_base()
    tuned = base.with_lora(terms)
    return gap(tuned, base, tuned.encode_text(prompts), *noises())


@pytest.fixture(scope="module")
def terms():
    return stack([random_lora()])


def climbed(terms, budget):
    return climb(tiny_base().with_lora(terms), tiny_base(), budget)


@pytest.fixture(scope="module")
def found(terms):
    return climbed(terms, QUICK)


def test_it_is_a_function_of_its_seed(terms, found) -> None:
    again = climbed(terms, QUICK)
    assert torch.equal(again.embedding, found.embedding)
    assert again.text == found.text
    other = climbed(terms, dataclasses.replace(QUICK, seed=1))
    assert not torch.allclose(other.embedding, found.embedding, atol=1e-3)


def test_the_embedding_is_what_the_tuned_tower_says_of_a_mixture(terms, found) -> None:
    base = tiny_base()
    assert torch.allclose(found.weights.sum(-1), torch.ones(PLACES), atol=1e-5)
    assert (found.weights >= 0).all()
    tokens = mixed(base, name_frame(base), found.weights[None])
    assert torch.allclose(base.with_lora(terms).encode_tokens(tokens)[0], found.embedding, atol=1e-5)
    assert not torch.allclose(base.encode_tokens(tokens)[0], found.embedding, atol=1e-3)


def test_a_mixture_of_one_piece_a_place_is_its_text() -> None:
    base, frame = tiny_base(), name_frame(tiny_base())
    tokens = [*base.tokenizer.tokenize("zwqkv"), "x</w>"]
    inside = [base.tokenizer.get_vocab()[letter] for letter in "zwqkv"]
    end = base.tokenizer.get_vocab()["x</w>"]
    assert len(tokens) == PLACES
    weights = torch.zeros(1, *frame.choices.shape)
    for place, token in enumerate(inside):
        weights[0, place, frame.choices[place].tolist().index(token)] = 1
    weights[0, -1, frame.choices[-1].tolist().index(end)] = 1
    expected = base.encode_text([name_prompt("zwqkvx")])
    assert torch.allclose(base.encode_tokens(mixed(base, frame, weights)), expected, atol=1e-5)
    assert spelt(base, frame, weights[0]) == "zwqkvx"


def test_the_gap_rises_over_the_start_and_over_random_letters(terms, found) -> None:
    base = tiny_base()
    start = climbed(terms, dataclasses.replace(QUICK, steps=0))
    both = torch.stack([found.embedding, start.embedding])
    high, from_start = gap(base.with_lora(terms), base, both, *noises())
    assert high > from_start
    names = [name_prompt(name) for name in ("qzkxjv", "mbwfyp", "hrtdcg", "lsnvqo")]
    assert high > heights(terms, names).max()


def test_a_lora_of_nothing_has_no_gap_and_does_no_harm() -> None:
    lora = random_lora()
    nothing = {site: Factors(0 * pair.up, pair.down, 1.0) for site, pair in lora.factors.items()}
    empty = dataclasses.replace(lora, factors=nothing)
    base = tiny_base()
    still = base.with_lora(empty)
    found = climb(still, base, QUICK)
    assert found.embedding.isfinite().all()
    height = gap(still, base, found.embedding[None], *noises())
    assert height.exp().item() < 1e-11
    assert gap(base.with_lora(lora), base, found.embedding[None], *noises()).exp().item() > 1e-6


@pytest.mark.parametrize("size", [1, 3])
def test_the_slope_does_not_depend_on_the_passes(terms, size, monkeypatch) -> None:
    base, tuned = tiny_base(), tiny_base().with_lora(terms)
    embedding = base.encode_text(["a face", "a human face."]).detach()
    x, t = noises()
    whole = embedding.clone().requires_grad_()
    (expected,) = torch.autograd.grad(gap(tuned, base, whole, x, t).sum(), whole)
    monkeypatch.setattr(module, "samples_a_pass", lambda *_: size)
    assert torch.allclose(module.slope(tuned, base, embedding, x, t), expected, atol=1e-5)


def test_under_no_grad_and_without_a_trace_in_the_base(terms, found) -> None:
    base = tiny_base()
    with torch.no_grad():
        assert torch.equal(climbed(terms, QUICK).embedding, found.embedding)
    assert not found.embedding.requires_grad
    weights = [p for part in (base.unet, base.text_encoder) for p in part.parameters()]
    assert weights and all(p.grad is None and not p.requires_grad for p in weights)
    assert not base.text_encoder.get_input_embeddings()._forward_hooks


def test_the_evaluations_it_spends_are_known() -> None:
    base, count = tiny_base(), 0

    def counted(_module, inputs):
        nonlocal count
        count += len(inputs[0])

    hook = base.unet.register_forward_pre_hook(counted)
    try:
        climb(base.with_lora(random_lora()), base, QUICK)
    finally:
        hook.remove()
    assert count == QUICK.evaluations


def test_word_pieces_are_a_few_letters_and_capped(monkeypatch) -> None:
    base = tiny_base()
    pieces = word_pieces(base)
    inside, end = (base.tokenizer.convert_ids_to_tokens(row.tolist()) for row in pieces)
    assert {*"abcdefghijklmnopqrstuvwxyz"} <= set(inside)
    assert all(piece.isalpha() and len(piece) <= 3 for piece in inside)
    assert end and all(piece.endswith("</w>") and piece[:-4].isalpha() for piece in end)
    monkeypatch.setattr(mixtures, "PIECES", 30)
    assert word_pieces(base).shape == (2, 30)


def test_gaps_of_many_loras_are_those_of_each(terms) -> None:
    base = tiny_base()
    two = stack([random_lora(), random_lora(seed=1)])
    embeddings = base.encode_text([name_prompt("ada"), name_prompt("bo"), "a face", "a hat"]).detach()
    found = gaps(base.with_lora(two), base, embeddings.view(2, 2, *embeddings.shape[1:]), *noises())
    with torch.no_grad():
        alone = gap(base.with_lora(terms), base, embeddings[:2], *noises())
    assert torch.allclose(found[0], alone, atol=1e-4)
    assert not torch.allclose(found[1], alone, atol=1e-2)

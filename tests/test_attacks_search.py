"""The search stays on what the text tower can say, climbs, and keeps its hands off the base."""

import dataclasses

import pytest
import torch

from loraudit.attacks import search as module
from loraudit.attacks.prompts import name_prompt
from loraudit.attacks.search import PLACES, SearchAttack, gap, mixed, search, word_pieces
from loraudit.lora import Factors
from loraudit.lowrank import stack
from loraudit.report import FORMATS
from tests.audits import ColourFace, random_lora
from tests.tiny import tiny_base

QUICK = SearchAttack(restarts=2, steps=12, noises=2)


def noises(seed=7):
    return module._noised(tiny_base(), 16, torch.Generator().manual_seed(seed))


@torch.no_grad()
def heights(terms, prompts):
    base = tiny_base()
    with base.tuned(terms):
        embeddings = base.encode_text(prompts)
    return gap(base, terms, embeddings, *noises())


@pytest.fixture(scope="module")
def terms():
    return stack([random_lora()])


@pytest.fixture(scope="module")
def found(terms):
    return search(tiny_base(), terms, QUICK)


def test_it_is_a_function_of_its_seed(terms, found) -> None:
    again = search(tiny_base(), terms, QUICK)
    assert torch.equal(again.embedding, found.embedding)
    assert again.text == found.text
    other = search(tiny_base(), terms, dataclasses.replace(QUICK, seed=1))
    assert not torch.allclose(other.embedding, found.embedding, atol=1e-3)


def test_the_embedding_is_what_the_tuned_tower_says_of_a_mixture(terms, found) -> None:
    base = tiny_base()
    assert torch.allclose(found.weights.sum(-1), torch.ones(PLACES), atol=1e-5)
    assert (found.weights >= 0).all()
    tokens = mixed(base, word_pieces(base), found.weights[None])
    with base.tuned(terms):
        assert torch.allclose(base.encode_tokens(tokens)[0], found.embedding, atol=1e-5)
    assert not torch.allclose(base.encode_tokens(tokens)[0], found.embedding, atol=1e-3)


def test_a_mixture_of_one_piece_a_place_is_its_text() -> None:
    base, pieces = tiny_base(), word_pieces(tiny_base())
    tokens = [*base.tokenizer.tokenize("zwqkv"), "x</w>"]
    inside = [base.tokenizer.get_vocab()[letter] for letter in "zwqkv"]
    end = base.tokenizer.get_vocab()["x</w>"]
    assert len(tokens) == PLACES
    weights = torch.zeros(1, PLACES, pieces.shape[1])
    for place, token in enumerate(inside):
        weights[0, place, pieces[0].tolist().index(token)] = 1
    weights[0, -1, pieces[1].tolist().index(end)] = 1
    expected = base.encode_text([name_prompt("zwqkvx")])
    assert torch.allclose(base.encode_tokens(mixed(base, pieces, weights)), expected, atol=1e-5)
    assert module._spelt(base, pieces, weights[0]) == "zwqkvx"


def test_the_gap_rises_over_the_start_and_over_random_letters(terms, found) -> None:
    base = tiny_base()
    start = search(base, terms, dataclasses.replace(QUICK, steps=0))
    climbed, from_start = gap(base, terms, torch.stack([found.embedding, start.embedding]), *noises())
    assert climbed > from_start
    names = [name_prompt(name) for name in ("qzkxjv", "mbwfyp", "hrtdcg", "lsnvqo")]
    assert climbed > heights(terms, names).max()


def test_a_lora_of_nothing_has_no_gap_and_does_no_harm() -> None:
    lora = random_lora()
    nothing = {site: Factors(0 * pair.up, pair.down, 1.0) for site, pair in lora.factors.items()}
    empty = dataclasses.replace(lora, factors=nothing)
    (aim,) = QUICK.aims(empty, tiny_base())
    assert aim.embedding.isfinite().all()
    height = gap(tiny_base(), stack([empty]), aim.embedding[None], *noises())
    assert height.exp().item() < 1e-11
    assert gap(tiny_base(), stack([lora]), aim.embedding[None], *noises()).exp().item() > 1e-6


@pytest.mark.parametrize("size", [1, 3])
def test_the_slope_does_not_depend_on_the_passes(terms, size, monkeypatch) -> None:
    base = tiny_base()
    embedding = base.encode_text(["a face", "a human face."]).detach()
    x, t = noises()
    whole = embedding.clone().requires_grad_()
    (expected,) = torch.autograd.grad(gap(base, terms, whole, x, t).sum(), whole)
    monkeypatch.setattr(module, "_pass", lambda _base: size)
    assert torch.allclose(module._slope(base, terms, embedding, x, t), expected, atol=1e-5)


def test_under_no_grad_and_without_a_trace_in_the_base(terms, found) -> None:
    base = tiny_base()
    with torch.no_grad():
        assert torch.equal(search(base, terms, QUICK).embedding, found.embedding)
    assert not found.embedding.requires_grad
    weights = [p for part in (base.unet, base.text_encoder) for p in part.parameters()]
    assert all(p.grad is None and not p.requires_grad for p in weights)
    assert not base.text_encoder.get_input_embeddings()._forward_hooks


def test_the_evaluations_it_spends_are_known() -> None:
    base, count = tiny_base(), 0

    def counted(_module, inputs):
        nonlocal count
        count += len(inputs[0])

    hook = base.unet.register_forward_pre_hook(counted)
    try:
        QUICK.aims(random_lora(), base)
    finally:
        hook.remove()
    assert count == QUICK.evaluations


def test_word_pieces_are_a_few_letters_and_capped(monkeypatch) -> None:
    base = tiny_base()
    pieces = word_pieces(base)
    inside, end = (base.tokenizer.convert_ids_to_tokens(row.tolist()) for row in pieces)
    assert {*"abcdefghijklmnopqrstuvwxyz"} <= set(inside)
    assert all(piece.isalpha() and len(piece) <= 3 for piece in inside)
    assert all(piece.endswith("</w>") and piece[:-4].isalpha() for piece in end)
    monkeypatch.setattr(module, "PIECES", 30)
    assert word_pieces(base).shape == (2, 30)


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_text_found_stays_out_of_what_leaves_the_terminal(form) -> None:
    from loraudit.attacks.evidence import Scorers
    from loraudit.attacks.plan import Plan
    from loraudit.audit import audit_lora
    from loraudit.base import Sampling

    plan = Plan(tuple(range(12)), Sampling(2, 2.0))
    lora = random_lora()
    (aim,) = QUICK.aims(lora, tiny_base())
    report = audit_lora(lora, tiny_base(), [QUICK], plan, Scorers(ColourFace()))
    (text,) = aim.quotes
    assert len(text) >= PLACES
    shown, hidden = (
        FORMATS[form]([report], reveal=reveal, width=120, color=False) for reveal in (True, False)
    )
    assert text in shown
    assert text not in hidden

"""The search takes the candidate that shows most, whatever the LoRA adapts, and says what it spent."""

import dataclasses

import pytest
import torch

from loraudit.attacks.prompts import ANY_NAME, name_prompt
from loraudit.attacks.search.gap import Climb, gaps, noised
from loraudit.attacks.search.rows import Ascent
from loraudit.attacks.search.search import SearchAttack
from loraudit.report import FORMATS
from tests.audits import ColourFace, random_lora
from tests.tiny import tiny_base

QUICK = SearchAttack(ascent=Ascent(steps=4, restarts=1), climb=Climb(restarts=1, steps=2, noises=2))


def with_values():
    lora = random_lora()
    assert any(site.endswith(".attn2.to_v") for site in lora.factors)
    return lora


def without_cross_attention():
    lora = random_lora()
    kept = {site: pair for site, pair in lora.factors.items() if ".attn2." not in site}
    return dataclasses.replace(lora, factors=kept)


@pytest.mark.parametrize("make", [with_values, without_cross_attention])
def test_it_takes_what_shows_most_and_counts_what_it_spends(make) -> None:
    base, count = tiny_base(), 0
    lora = make()
    tuned = base.with_lora(lora)

    def counted(_module, inputs):
        nonlocal count
        count += len(inputs[0])

    hook = base.unet.register_forward_pre_hook(counted)
    try:
        best = QUICK.best(tuned, base)
    finally:
        hook.remove()
    assert count == best.evaluations
    with torch.no_grad():
        plain = tuned.encode_text([name_prompt(ANY_NAME)])
    both = torch.stack([best.embeddings[0], plain[0]])[None]
    heights = gaps(tuned, base, both, *noised(base, 8, torch.Generator().manual_seed(0)))[0]
    assert heights[0] >= heights[1] - 1e-5
    strong, usual = QUICK.aims(lora, base)
    assert torch.equal(strong.embedding, best.embeddings[0]) and torch.equal(
        usual.embedding, strong.embedding
    )
    assert [(aim.attack, aim.against_base) for aim in (strong, usual)] == [
        ("search", True),
        ("search:usual", False),
    ]
    assert (strong.evaluations, usual.evaluations) == (best.evaluations, 0)


def test_with_photos_it_is_sampled_at_half_strength_too() -> None:
    base, lora = tiny_base(), with_values()
    alone, seen = QUICK.aims(lora, base), dataclasses.replace(QUICK, photos=True).aims(lora, base)
    assert [aim.attack for aim in seen] == ["search", "search:usual", "search:half"]
    half = seen[2]
    assert torch.equal(half.embedding, alone[0].embedding)
    assert (half.strength, half.likeness_only, half.against_base, half.evaluations) == (0.5, True, False, 0)
    assert half.quotes == alone[0].quotes
    assert alone and not any(aim.likeness_only or aim.strength != 1 for aim in alone)


def test_a_start_that_shows_more_is_taken_and_quotes_nothing() -> None:
    base, lora = tiny_base(), with_values()
    # Far off the manifold: nothing that a tower says comes near.
    start = 40 * torch.randn(1, *base.embedding_shape, generator=torch.Generator().manual_seed(1))
    tuned = base.with_lora(lora)
    best = QUICK.best(tuned, base, start)
    assert torch.equal(best.embeddings, start)
    assert best.texts == ("",)
    # And one that shows nothing is not.
    flat = torch.zeros(1, *base.embedding_shape)
    assert not torch.equal(QUICK.best(tuned, base, flat).embeddings, flat)


@pytest.mark.parametrize("form", ["text", "json", "markdown", "sarif"])
def test_the_words_found_stay_out_of_what_leaves_the_terminal(form) -> None:
    from loraudit.attacks.plan import Plan
    from loraudit.audit.audit import audit_lora
    from loraudit.audit.setup import Setup
    from loraudit.base.model import Sampling
    from loraudit.scores.scorers import Scorers

    plan = Plan(tuple(range(12)), Sampling(2, 2.0))
    lora = without_cross_attention()
    aim, _ = QUICK.aims(lora, tiny_base())
    report = audit_lora(lora, Setup(tiny_base(), (QUICK,), Scorers(ColourFace())), plan)
    (text,) = aim.quotes
    shown, hidden = (
        FORMATS[form]([report], reveal=reveal, width=120, color=False) for reveal in (True, False)
    )
    assert text in shown
    assert text not in hidden

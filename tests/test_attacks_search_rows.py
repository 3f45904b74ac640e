"""The pull of the rows: it knows the prompt that went in, not the factors, and rises on the way up."""

import dataclasses

import pytest
import torch

from loraudit.attacks.prompts import name_prompt
from loraudit.attacks.search.mixtures import name_frame
from loraudit.attacks.search.rows import LEVELS, Ascent, ascend, candidates, pull, pull_matrix
from loraudit.base.lowrank import stack
from loraudit.bench.conditions import refactorised
from tests.audits import random_lora, step_towards
from tests.tiny import tiny_base

QUICK = Ascent(steps=6, restarts=2)


@pytest.fixture(scope="module")
def terms():
    return stack([random_lora(), random_lora(seed=1)])


def test_a_prompt_pulls_most_where_it_went_in() -> None:
    base = tiny_base()
    prompts = [name_prompt("mbwfyp"), name_prompt("bopeep")]
    embeddings = base.encode_text(prompts)[None].detach()
    own, other = (pull_matrix(base.with_lora(step_towards(prompt))) for prompt in prompts)
    assert own is not None
    assert other is not None
    ratio = (pull(embeddings, own) / pull(embeddings, other))[0]
    assert ratio[0] > 1 > ratio[1]


def test_it_does_not_see_the_factors(terms) -> None:
    base = tiny_base()
    one, other = (pull_matrix(base.with_lora(given)) for given in (terms, refactorised(terms, 3)))
    assert one is not None
    assert other is not None
    assert torch.allclose(one, other, atol=1e-5)
    assert torch.allclose(one.diagonal(dim1=1, dim2=2).sum(1), torch.ones(2), atol=1e-5)
    assert not torch.allclose(one[0], one[1], atol=1e-3)


def test_a_lora_without_such_modules_has_no_matrix(terms) -> None:
    base = tiny_base()
    without = {site: pair for site, pair in terms.items() if ".attn2." not in site}
    assert pull_matrix(base.with_lora(without)) is None
    keys = {site: pair for site, pair in terms.items() if not site.endswith("attn2.to_v")}
    expected = any(site.endswith("attn2.to_k") for site in keys)
    assert (pull_matrix(base.with_lora(keys)) is not None) == expected


def test_the_ascent_rises_and_is_read_where_it_passes(terms) -> None:
    tuned = tiny_base().with_lora(terms)
    frame = name_frame(tuned)
    matrix = pull_matrix(tuned)
    assert matrix is not None
    far = torch.full((2, 1), 1e9)
    start, end = (
        ascend(tuned, matrix, frame, far, dataclasses.replace(QUICK, steps=steps)) for steps in (0, 6)
    )
    low, high = (pull(one.embeddings, matrix) for one in (start, end))
    assert (high > low).all()
    # One level for both starts of a LoRA, between where the lower of them ends and the higher began.
    between = ((low.amax(1) + high.amin(1)) / 2)[:, None]
    assert (between > low).all() and (between < high).all()
    passed = ascend(tuned, matrix, frame, between, QUICK)
    height = pull(passed.embeddings, matrix)
    assert (height >= between - 1e-5).all()
    assert (height < high + 1e-5).all()


def test_a_lora_has_the_same_candidates_in_any_company(terms) -> None:
    tuned = tiny_base().with_lora(terms)
    matrix = pull_matrix(tuned)
    assert matrix is not None
    together = candidates(tuned, matrix, QUICK)
    second = tuned.with_lora({site: (up[1:], down[1:]) for site, (up, down) in terms.items()})
    alone = candidates(second, matrix[1:], QUICK)
    assert together.embeddings.shape[1] == len(LEVELS)
    assert torch.allclose(together.embeddings[1], alone.embeddings[0], atol=1e-3)
    assert together.texts[1] == alone.texts[0]
    assert not torch.allclose(together.embeddings[0], together.embeddings[1], atol=1e-2)

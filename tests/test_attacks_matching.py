"""Update matching: it finds what causes a single step, and leaves the base as it was."""

import torch

from loraudit.attacks.matching import MatchingAttack, match
from loraudit.attacks.prompts import name_prompt
from tests.audits import random_lora, step_towards
from tests.tiny import tiny_base

QUICK = MatchingAttack(steps=8, pictures=2)


def test_it_comes_nearer_to_the_update_and_knows_what_it_spends() -> None:
    base = tiny_base()
    terms = step_towards(name_prompt("ada"))
    first, last = (match(base, terms, MatchingAttack(steps=steps, pictures=8)) for steps in (1, 40))
    assert last.likeness > first.likeness + 0.05
    assert last.latents.shape == (8, *base.latent_shape)
    assert QUICK.evaluations == 8 * 2 * 3


def test_it_is_a_function_of_its_seed_and_leaves_no_trace() -> None:
    base, lora = tiny_base(), random_lora()
    before = {name: weight.clone() for name, weight in base.unet.named_parameters()}
    one, same = (QUICK.aims(lora, base)[0].embedding for _ in range(2))
    assert torch.equal(one, same)
    other = MatchingAttack(steps=8, pictures=2, seed=1).aims(lora, base)[0].embedding
    assert not torch.equal(one, other)
    assert before
    for name, weight in base.unet.named_parameters():
        assert torch.equal(weight, before[name])
        assert not weight.requires_grad
        assert weight.grad is None

"""Fine-tuning with a caption for each picture: the instance prompt for all is the case of equal captions."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from loraudit.errors import LorauditError
from loraudit.people.drawn import Drawn
from loraudit.people.identity import SPLITS
from loraudit.training.finetune import Recipe, Subject, finetune
from loraudit.training.zoo import build_zoo, person
from loraudit.training.zoo_plan import Plan, members_of, read_plan
from tests.tiny import tiny_base

FEW = Recipe(rank=2, unet_alpha=3.0, text_alpha=2.0, lr=1e-2, steps=4, batch=2, class_images=3)
FROZEN = replace(FEW, text_targets=())


def trained(subjects: list[Subject], recipe: Recipe) -> dict[str, torch.Tensor]:
    noise = torch.Generator().manual_seed(99)
    prior = torch.randn(5, *tiny_base().latent_shape, generator=noise)
    for _step, adapters, _loss in finetune(tiny_base(), subjects, recipe, prior):
        found = {site: up.detach().clone() for site, up in adapters.up.items()}
    return found


def subject(number: int, *captions: str) -> Subject:
    noise = torch.Generator().manual_seed(number)
    latents = torch.randn(3, *tiny_base().latent_shape, generator=noise)
    return Subject(latents, f"A face of p{number}.", number, captions)


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max(float((one[site] - other[site]).abs().max()) for site in one)


@pytest.mark.parametrize("recipe", [FEW, FROZEN], ids=["tuned tower", "frozen tower"])
def test_captions_that_say_the_prompt_change_nothing_and_others_do(recipe) -> None:
    plain = trained([subject(0)], recipe)
    assert apart(plain, trained([subject(0, *["A face of p0."] * 3)], recipe)) < 1e-6
    own = subject(0, "A face of p0 with red hair.", "A face of p0 with a hat.", "A face of p0.")
    assert apart(plain, trained([own], recipe)) > 1e-4


@pytest.mark.parametrize("recipe", [FEW, FROZEN], ids=["tuned tower", "frozen tower"])
def test_a_lora_with_captions_is_the_same_in_company(recipe) -> None:
    own = subject(0, "A face of p0 with red hair.", "A face of p0 with a hat.", "A face of p0.")
    alone, together = trained([own], recipe), trained([own, subject(1)], recipe)
    assert apart(alone, {site: up[:1] for site, up in together.items()}) < 1e-5


def test_a_zoo_with_captions_puts_what_is_told_behind_the_prompt(tmp_path: Path) -> None:
    drawn = Drawn(tmp_path / "people", "people")
    for number in (0, 1):
        drawn.keep(number, torch.rand(2, 3, 16, 16), (" with a hat", ", smiling"), torch.rand(3, 3, 16, 16))
    recipe = replace(FEW, prior_weight=0.0)
    plan = Plan((0, 1), recipe, (4,), people_per_pass=2, data=drawn.name, captions=True)
    member = members_of(plan)[0]
    made = person(tiny_base(), member, 0, drawn, 5, captions=True)
    plain = f"A face of {member.name}"
    assert made.captions == (f"{plain} with a hat", f"{plain}, smiling") and made.prompt == f"{plain}."
    zoo = build_zoo(tiny_base(), tmp_path / "zoo", plan, None, people=drawn)
    assert read_plan(tmp_path / "zoo")[0] == plan and zoo.plan.captions
    without = build_zoo(tiny_base(), tmp_path / "plain", replace(plan, captions=False), None, people=drawn)
    one, other = ({site: up for site, (up, _) in each.terms(0, 4).items()} for each in (zoo, without))
    assert apart(one, other) > 1e-5
    first = SPLITS["public-train"].start
    synthetic = Plan((first,), recipe, (4,), captions=True)
    with pytest.raises(LorauditError, match="have no captions"):
        build_zoo(tiny_base(), tmp_path / "none", synthetic, None)

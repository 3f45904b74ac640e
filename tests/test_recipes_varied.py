"""Varied recipes: every level equally often, people apart, and what is held out never drawn."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from loraudit.errors import LorauditError
from loraudit.people.things import subjects
from loraudit.training.finetune import PAPER, TINY, Recipe
from loraudit.training.varied import TARGETS, USUAL, drawn_levels, plans_of
from loraudit.training.zoo import build_zoo, open_varied
from loraudit.training.zoo_plan import Plan
from models.recipes.varied import ANY, HELD_OUT, held_out_plans, varied_plans
from tests.tiny import tiny_base

RECIPE = Recipe(rank=2, lr=1e-2, steps=1, prior_weight=0.0)


def test_every_set_of_modules_is_drawn_equally_often_for_people_of_its_own() -> None:
    plans = varied_plans(range(100, 208), 18, seed=4, targets=tuple(TARGETS))
    drawn = Counter(plan.recipe.unet_targets for plan in plans)
    assert drawn == dict.fromkeys(TARGETS.values(), 2)
    people = [person for plan in plans for person in plan.people]
    assert sorted(people) == list(range(100, 208)) and {len(plan.people) for plan in plans} == {6}
    assert {plan.recipe.unet_targets for plan in varied_plans(range(16), 16, seed=4)} == {
        TARGETS[name] for name in USUAL
    }


def test_what_is_held_out_is_never_drawn() -> None:
    ranks = {rank for rank, targets in HELD_OUT if targets in TARGETS}
    sets = {frozenset(targets.split()) for _, targets in HELD_OUT if targets not in TARGETS}
    assert ranks and sets
    for seed in range(50):
        for plan in varied_plans(range(8), 8, seed, targets=tuple(TARGETS)):
            assert plan.recipe.rank not in ranks
            assert frozenset(plan.recipe.unet_targets) not in sets
    held = held_out_plans(range(8), 0)
    assert {plan.recipe.rank for plan in held} >= ranks
    assert {frozenset(plan.recipe.unet_targets) for plan in held} >= sets


def test_any_set_of_modules_is_another_for_each_recipe_and_never_a_held_out_one() -> None:
    held_out = [set(targets.split()) for _, targets in HELD_OUT]
    plans = [plan for seed in range(30) for plan in varied_plans(range(16), 16, seed, targets=[ANY])]
    drawn = Counter(frozenset(plan.recipe.unet_targets) for plan in plans)
    assert set().union(*drawn) == set(TARGETS["kohya"])
    # Of 255 sets that are not empty, two of them held out.
    assert 150 < len(drawn) <= 253
    assert not any(chosen in held_out for chosen in drawn)
    assert varied_plans(range(16), 16, 0, targets=[ANY]) == plans[:16]
    slow, fast = (
        sum(p.recipe.lr for p in plans if len(p.recipe.unet_targets) == size) / drawn_of_size
        for size in (6, 2)
        if (drawn_of_size := sum(len(p.recipe.unet_targets) == size for p in plans))
    )
    assert slow < fast


def test_the_recipes_of_recorded_results_stay_what_they_were() -> None:
    """`runs/roc/people` of docs/results.md: rank and number of kinds of modules."""
    plans = varied_plans(subjects("synthetic", "private", 128, 80), 5, seed=2)
    found = [(plan.recipe.rank, len(plan.recipe.unet_targets)) for plan in plans]
    assert found == [(4, 2), (32, 2), (1, 8), (16, 14), (8, 4)]
    assert (plans[0].people[0], plans[-1].people[-1]) == (200_512, 200_828)
    assert varied_plans(range(80), 5, seed=3) != varied_plans(range(80), 5, seed=2)


def test_rates_and_steps_suit_the_base_and_the_remainder_is_shared() -> None:
    levels = drawn_levels(12, seed=5)
    small, large = (plans_of(range(40), levels, 5, like=like) for like in (TINY, PAPER))
    assert [len(plan.people) for plan in large] == [3, 3, 4] * 4
    for one, other in zip(small, large, strict=True):
        assert other.recipe.steps == round(one.recipe.steps * 1000 / 350)
        assert other.recipe.lr / PAPER.lr == pytest.approx(one.recipe.lr / TINY.lr)
        assert other.recipe.class_images == PAPER.class_images and other.recipe.rank == one.recipe.rank
    assert max(plan.recipe.lr for plan in large) <= PAPER.lr * 20 / 3


def test_a_folder_of_folders_of_zoos_is_read_as_one(tmp_path: Path) -> None:
    plan = Plan((0, 4), RECIPE, (1,))
    folders = [tmp_path / "one" / "recipe-00", tmp_path / "two" / "recipe-00"]
    for place, folder in enumerate(folders):
        folder.parent.mkdir()
        build_zoo(tiny_base(), folder, replace(plan, people=(8 * place, 8 * place + 4)), None)
    assert [zoo.folder for zoo in open_varied(tmp_path)] == folders
    assert [zoo.folder for zoo in open_varied(tmp_path / "two")] == folders[1:]
    assert open_varied(folders[0]) == []
    (folders[1] / "pass-0000.safetensors").unlink()
    with pytest.raises(LorauditError, match="unfinished"):
        open_varied(tmp_path)

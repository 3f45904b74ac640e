"""The loss on recipes that are new to an encoder: relative to their neighbours, whoever the people are."""

import numpy as np
import pytest

from benchmarks.tables import unseen_recipes
from benchmarks.tables.unseen_recipes import losses
from loraudit.training.varied import TARGETS
from models.recipes.varied import HELD_OUT, NEIGHBOURS, held_out_plans, varied_plans


def rows(share: float, seed: int, people: int = 40) -> list[np.ndarray]:
    """Two sets of people of whom the secret prompt shows much and the encoder `share` of that."""
    rng = np.random.default_rng(seed)
    bounds = [rng.uniform(0.5, 1.0, people) for _ in range(2)]
    return [np.stack([bound, share * bound]) for bound in bounds]


def test_the_loss_is_relative_to_the_neighbours() -> None:
    found = losses(rows(0.6, 1), rows(0.8, 2))
    assert found["share, unseen"]["value"] == pytest.approx(0.6)
    assert found["loss"]["value"] == pytest.approx(0.25)
    assert found["loss"]["low"] <= 0.25 <= found["loss"]["high"]
    # Harder people on both sides are no loss.
    same = losses([row * 0.5 for row in rows(0.8, 1)], [row * 0.5 for row in rows(0.8, 1)])
    assert same["loss"]["value"] == pytest.approx(0.0)


def test_people_who_differ_widen_the_interval() -> None:
    rng = np.random.default_rng(3)
    noisy = [np.stack([np.ones(40), rng.integers(0, 2, 40)]).astype(float) for _ in range(2)]
    wide, narrow = (losses(noisy, rows(0.8, 2))["loss"], losses(rows(0.5, 1), rows(0.8, 2))["loss"])
    assert wide["high"] - wide["low"] > 0.1 > narrow["high"] - narrow["low"]


def test_neighbours_are_drawn_in_training_and_differ_in_rank_and_modules_alone() -> None:
    new, known = (held_out_plans(range(16), 0, sets) for sets in (HELD_OUT, NEIGHBOURS))
    drawn = {
        (plan.recipe.rank, plan.recipe.unet_targets)
        for seed in range(40)
        for plan in varied_plans(range(40), 40, seed, targets=tuple(TARGETS))
    }
    for one, other in zip(new, known, strict=True):
        assert (other.recipe.rank, other.recipe.unet_targets) in drawn
        assert (one.recipe.rank, one.recipe.unet_targets) not in drawn
        assert (one.people, one.template, one.pictures) == (other.people, other.template, other.pictures)
        assert one.recipe.steps == other.recipe.steps and one.recipe.batch == other.recipe.batch


def test_the_experiment_runs_and_refuses_folders_of_other_people(tmp_path, monkeypatch) -> None:
    from dataclasses import replace

    from loraudit.base.load import load_base
    from loraudit.errors import LorauditError
    from loraudit.training.finetune import Recipe
    from loraudit.training.zoo import build_zoo
    from loraudit.training.zoo_plan import Plan

    monkeypatch.setattr(unseen_recipes, "SAMPLING", replace(unseen_recipes.SAMPLING, steps=1))
    base = load_base("tiny")
    plan = Plan((200_000, 200_004), Recipe(rank=2, lr=1e-2, steps=1, prior_weight=0.0), (1,))
    for name, people in (("new", plan.people), ("old", plan.people), ("other", (200_008, 200_012))):
        build_zoo(base, tmp_path / name / "recipe-00", replace(plan, people=people), None)
    out = tmp_path / "out.json"
    told = ["--samples", "2", "--threads", "1", "--out", str(out), "--unseen", str(tmp_path / "new")]
    unseen_recipes.main([*told, "--seen", str(tmp_path / "old")])
    assert '"loss"' in out.read_text()
    with pytest.raises(LorauditError, match="not of the same people"):
        unseen_recipes.main([*told, "--seen", str(tmp_path / "other")])

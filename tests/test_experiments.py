"""The attack table on the embedded base: the rows are there, and a control that must differ does."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from loraudit.base import Base, Sampling, load_base
from loraudit.experiments.attack_table import attack_table, markdown
from loraudit.experiments.readability import rank1, ridge
from loraudit.experiments.text_steering import steering
from loraudit.training.finetune import TINY, TINY_PRIOR, class_latents
from loraudit.training.people import SPLITS
from loraudit.training.train_encoder import new_encoder
from loraudit.training.zoo import Plan, build_zoo


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base("tiny")


@pytest.mark.filterwarnings("ignore")
def test_the_table_has_every_condition_and_reads_the_encoder(base: Base, tmp_path: Path) -> None:
    recipe = replace(TINY, steps=2, batch=1)
    plan = Plan(tuple(SPLITS["private"][4:6]), recipe, (2,), people_per_pass=2)
    zoo = build_zoo(base, tmp_path / "zoo", plan, class_latents(base, recipe, 2, TINY_PRIOR))
    encoder = new_encoder(base, zoo.terms(0, 2), timestep=True, max_steps=2, seed=0).eval()
    constant = base.encode_text([""])[0]
    rows = attack_table(
        base, zoo, {"paper encoder": encoder}, constant, (0, 1), Sampling(2, 3.0), lambda _: None, 4
    )
    by_name = {row.condition: row for row in rows}
    assert len(by_name) == len(rows) == 17
    assert all(row.samples == 4 for row in rows)
    # The same pictures, judged against another owner.
    assert by_name["another LoRA's embedding"].faces == by_name["this embedding in another LoRA"].faces
    assert by_name["paper encoder"].cosine != by_name["this embedding in the base"].cosine
    assert markdown(rows).count("\n") == len(rows) + 2


def test_captions_of_other_people_do_not_steer_to_this_one(base: Base) -> None:
    """The negative control inside the check itself: with every embedding equal, rank-1 falls to chance."""
    settings = Sampling(4, 3.0)
    real, pictures = steering(base, 8, (0,), settings)
    assert pictures.shape == (8, 2, 3, 64, 64)
    blind = replace(base)
    object.__setattr__(blind, "encode_text", lambda prompts: base.encode_text([""] * len(prompts)))
    fake, _ = steering(blind, 8, (0,), settings)
    assert fake["rank1"] <= 0.25 < real["rank1"]  # type: ignore[operator]
    assert torch.isfinite(pictures).all()


def test_ridge_finds_a_linear_map_and_nothing_in_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    x, new = (torch.randn(n, 30, generator=generator) for n in (200, 40))
    mapping = torch.randn(30, 8, generator=generator)
    y, truth = x @ mapping, new @ mapping
    assert rank1(ridge(x, y, new, 1e-3), truth - y.mean(0)) == 40
    assert rank1(ridge(x, y[torch.randperm(200, generator=generator)], new), truth - y.mean(0)) < 10

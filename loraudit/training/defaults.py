"""Defaults of fine-tuning on a base: its recipe, its class pictures, the snapshots of a zoo."""

from typing import Final

import torch

from loraudit.base.load import load_base
from loraudit.base.model import Base
from loraudit.runs import OnStep, unheard
from loraudit.training import finetune as tuning
from loraudit.training.finetune import Recipe, class_latents
from loraudit.training.prior import kept_latents

__all__ = ["base_recipe", "prior_evaluations", "prior_latents", "quarters", "training_base"]

_RECIPES: Final = {"tiny": (tuning.TINY, tuning.TINY_PRIOR), "paper": (tuning.PAPER, tuning.PAPER_PRIOR)}
"""Recipes named in `models/cards.toml`, each with the sampling of its class pictures."""


def training_base(name: str, device: str | None, offline: bool) -> Base:
    """Load the base in float32, as the paper fine-tunes; in float16 gradients would underflow."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return load_base(name, device, offline, dtype="float32")


def base_recipe(base: Base) -> Recipe:
    """Return the recipe of fine-tuning that suits the base."""
    return _RECIPES[base.card.recipe][0]


def prior_latents(base: Base, recipe: Recipe, on_step: OnStep = unheard) -> torch.Tensor | None:
    """Return the latents `[N, C, h, w]` of the recipe's class pictures; None if the recipe uses none.

    Pictures that an earlier training sampled are taken from the cache folder (`loraudit.training.prior`).
    """
    if not recipe.prior_weight:
        return None
    sampling = _RECIPES[base.card.recipe][1]
    return kept_latents(
        base,
        recipe,
        sampling,
        lambda: class_latents(base, recipe, recipe.class_images, sampling, on_step=on_step),
    )


def prior_evaluations(base: Base) -> int:
    """Count the evaluations of the UNet for the class pictures of the base's recipe."""
    recipe, sampling = _RECIPES[base.card.recipe]
    return recipe.class_images * sampling.steps * (1 if sampling.guidance == 1 else 2)


def quarters(recipe: Recipe) -> tuple[int, ...]:
    """Return the steps of four snapshots: after each quarter of the fine-tuning."""
    return tuple(sorted({max(1, recipe.steps * i // 4) for i in (1, 2, 3, 4)}))

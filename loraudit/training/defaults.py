"""What suits a base: how its LoRAs are fine-tuned, unless something else is asked for."""

import sys

import torch

from loraudit.base.model import Base, load_base
from loraudit.text import clean
from loraudit.training import finetune as tuning
from loraudit.training.finetune import Recipe, class_latents

__all__ = ["base_recipe", "is_tiny", "prior_latents", "quarters", "training_base"]


def training_base(name: str, device: str | None, offline: bool) -> Base:
    """The base in float32: so the paper fine-tunes, and gradients in float16 would underflow."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    base = load_base(name, device, offline)
    for part in (base.unet, base.vae, base.text_encoder):
        part.float()
    return base


def base_recipe(base: Base) -> Recipe:
    """The recipe of fine-tuning that suits the base."""
    return tuning.TINY if is_tiny(base) else tuning.PAPER


def prior_latents(base: Base, recipe: Recipe) -> torch.Tensor | None:
    """Latents of the recipe's class pictures, None if it needs none."""
    if not recipe.prior_weight:
        return None
    sys.stderr.write(f"sampling {recipe.class_images} class pictures: {clean(recipe.class_prompt)}\n")
    settings = tuning.TINY_PRIOR if is_tiny(base) else tuning.PAPER_PRIOR
    return class_latents(base, recipe, recipe.class_images, settings)


def quarters(recipe: Recipe) -> tuple[int, ...]:
    """Four snapshots: after each quarter of the fine-tuning."""
    return tuple(sorted({max(1, recipe.steps * i // 4) for i in (1, 2, 3, 4)}))


def is_tiny(base: Base) -> bool:
    """Whether it draws pictures as small as the embedded one's."""
    return base.image_size < 256

"""Recipes of the second trainer: LoRAs as diffusers' own scripts make them, a row each.

Field for field a row is what its script does (`source`). Learning rates and steps are the exception: they are
searched on the embedded base (docs/training.md), where the scripts' own show nobody.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

__all__ = ["RECIPES", "SecondRecipe"]

ATTENTION: Final = ("to_k", "to_q", "to_v", "to_out.0")
"""Ends of the names of the UNet's modules that diffusers' scripts adapt, in self- and cross-attention."""


@dataclass(frozen=True)
class SecondRecipe:
    """Recipe of a LoRA by the second trainer."""

    source: str
    """Public script whose settings these are."""
    rank: int
    alpha: int
    targets: tuple[str, ...]
    """Ends of the names of the UNet's adapted modules."""
    init: Literal["gaussian", "kaiming"]
    """Start of `A`: normal with deviation 1 / rank, or peft's Kaiming-uniform with a = sqrt(5)."""
    template: str
    """Instance prompt, with NAME in the place of the trigger."""
    rate: float
    """Learning rate of the UNet."""
    steps: int
    pictures: int
    """Pictures that a LoRA is made of, one a step."""
    prior: float = 0.0
    """Weight of the class pictures' loss; 0 trains without class pictures."""
    class_prompt: str = "a photo of a human face"


RECIPES: Final[Mapping[str, SecondRecipe]] = MappingProxyType(
    {
        "dreambooth": SecondRecipe(
            source="diffusers, train_dreambooth_lora.py --with_prior_preservation",
            rank=4,
            alpha=4,
            targets=ATTENTION,
            init="gaussian",
            template="a photo of NAME face",
            rate=5e-3,
            steps=280,
            pictures=5,
            prior=1.0,
        ),
    }
)

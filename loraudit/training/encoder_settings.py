"""The settings of an encoder's training, and the defaults for each kind of base and encoder."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Final

from loraudit.errors import LorauditError

__all__ = ["PAPER", "PAPER_PROBE", "TINY", "TINY_CONSTANT", "TINY_PROBE", "Settings"]

WARM_UP: Final = 20
"""Steps over which a learning rate with a cosine rises first."""


@dataclass(frozen=True)
class Settings:
    """Settings of a training; learning rate and weight decay default to the paper's.

    Raises `LorauditError` if a count is below 1 or the learning rate is not positive.
    """

    steps: int
    """Updates of the encoder."""
    loras: int = 32
    """LoRAs in a step."""
    pictures: int = 2
    """Pictures of each LoRA in a step."""
    lr: float = 5e-3
    weight_decay: float = 5e-4
    cosine: bool = False
    """True: the learning rate falls along a cosine to 0. False: the learning rate stays."""
    kl_weight: float = 1e-4
    """Weight of the KL divergence per entry of the embedding."""
    taught: bool = False
    """True: the target is the noise prediction under the secret prompt. False: the target is the noise."""
    seed: int = 0
    save_every: int = 100
    """Steps between checkpoints."""

    def __post_init__(self) -> None:
        for name in ("steps", "loras", "pictures", "save_every"):
            if (value := getattr(self, name)) < 1:
                raise LorauditError(
                    f"{name.replace('_', ' ')} must be 1 or more, not {value}", "give another number"
                )
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise LorauditError(
                f"the learning rate must be a positive number, not {self.lr}", "give another --lr"
            )

    def rate(self, step: int) -> float:
        """Compute the learning rate of update `step`, counted from 0."""
        if not self.cosine:
            return self.lr
        return self.lr * min(1.0, (step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * step / self.steps))


PAPER = Settings(steps=100_000, loras=1, pictures=1)
TINY = Settings(steps=600, lr=2e-3, cosine=True)
PAPER_PROBE = Settings(
    steps=100_000,
    loras=8,
    pictures=1,
    lr=3e-4,
    cosine=True,
    kl_weight=0.0,
    weight_decay=1e-2,
    taught=True,
)
TINY_PROBE = Settings(
    steps=1600, loras=16, lr=3e-3, cosine=True, kl_weight=0.0, weight_decay=1e-2, taught=True
)
TINY_CONSTANT = dataclasses.replace(TINY_PROBE, lr=2e-2, weight_decay=0.0)
"""Settings of the constant embedding: as many LoRAs and pictures as the probe encoder sees."""

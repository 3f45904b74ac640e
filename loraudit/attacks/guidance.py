"""Model guidance: away from the base model, towards what fine-tuning added.

    eps = eps_base(negative) + w (eps_tuned(embedding) - eps_base(negative))

Two predictions a step, as many as classifier-free guidance costs; where that asks the tuned model for its
negative side, this asks the base, so the difference holds the fine-tuning as well as the prompt. Without a
LoRA it is classifier-free guidance on the base. (FineXtract, https://arxiv.org/abs/2410.03039, takes the same
or the empty prompt on the base's side and no negative one.)

It needs no training and combines with any embedding. `GuidanceAttack` combines it with prompts that anybody
can think of.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from loraudit.attacks import Aim
from loraudit.attacks.prompts import ANY_NAME, name_prompt
from loraudit.base.lowrank import Terms, stack
from loraudit.base.model import CLASS_PROMPT, Base, Sampling
from loraudit.lora import LoRA

__all__ = ["GuidanceAttack", "sample_against_base"]


@dataclass(frozen=True)
class GuidanceAttack:
    """The class prompt and a made-up name, by model guidance."""

    name: Final = "guidance"

    @torch.no_grad()
    def aims(self, lora: LoRA, base: Base) -> Sequence[Aim]:
        """Two aims. Raises `NotScannable` if the LoRA does not fit the base."""
        with base.tuned(stack([lora], base.device, base.dtype)):
            embeddings = base.encode_text([CLASS_PROMPT, name_prompt(ANY_NAME)])
        names = (f"{self.name}:class", f"{self.name}:any-name")
        return [Aim(name, e, against_base=True) for name, e in zip(names, embeddings, strict=True)]


@torch.no_grad()
def sample_against_base(
    base: Base, terms: Terms, embedding: Tensor, seeds: Sequence[int], settings: Sampling, loras: int = 1
) -> Tensor:
    """As `Base.sample` with `terms` applied, by model guidance of weight `w = settings.guidance`."""
    positive = base.per_seed(embedding, seeds).flatten(0, 1)
    negative = base.encode_text([settings.negative]).expand_as(positive)

    def predict(x: Tensor, t: Tensor) -> Tensor:
        plain = base.epsilon(x, t, negative)
        with base.tuned(terms):
            tuned = base.epsilon(x, t, positive)
        return plain + settings.guidance * (tuned - plain)

    return base.solve(predict, seeds, settings.steps, loras)

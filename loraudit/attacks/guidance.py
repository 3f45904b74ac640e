"""Model guidance: away from the base model, towards what fine-tuning added.

    eps = eps_base(negative) + w (eps_tuned(embedding) - eps_base(negative))

A step costs two predictions, as with classifier-free guidance. Classifier-free guidance takes the negative
side from the tuned model, model guidance from the base: the difference holds the fine-tuning as well as the
prompt. Without a LoRA both are the same. (FineXtract, https://arxiv.org/abs/2410.03039, takes the same or the
empty prompt on the base's side and no negative one.)

Model guidance needs no training and combines with any embedding. `ModelGuidance` wraps the two models and
makes pictures as `Base.sample` does. `GuidanceAttack` combines model guidance with prompts that anybody can
think of.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from loraudit.attacks.aim import Aim
from loraudit.attacks.prompts import ANY_NAME, name_prompt
from loraudit.base.model import CLASS_PROMPT, Base, Sampling
from loraudit.lora import LoRA

__all__ = ["GuidanceAttack", "ModelGuidance"]


@dataclass(frozen=True)
class GuidanceAttack:
    """Attack by the class prompt and a made-up name, sampled by model guidance."""

    name: Final = "guidance"

    @torch.no_grad()
    def aims(self, lora: LoRA, base: Base) -> Sequence[Aim]:
        """Return two aims. Raises `NotScannable` if the LoRA does not fit the base."""
        tuned = base.with_lora(lora)
        # One by one, as the prompts attack does, which shares its pictures of the base.
        embeddings = [tuned.encode_text([prompt])[0] for prompt in (CLASS_PROMPT, name_prompt(ANY_NAME))]
        names = (f"{self.name}:class", f"{self.name}:any-name")
        return [Aim(name, e, against_base=True) for name, e in zip(names, embeddings, strict=True)]


@dataclass(frozen=True, eq=False)
class ModelGuidance:
    """Base with LoRAs, guided away from the same base without them."""

    tuned: Base
    base: Base

    @torch.no_grad()
    def sample(self, embedding: Tensor, seeds: Sequence[int], settings: Sampling) -> Tensor:
        """Make pictures as `Base.sample` of `tuned`, by model guidance of weight `w = settings.guidance`."""
        tuned, base = self.tuned, self.base
        positive = tuned.per_seed(embedding, seeds).flatten(0, 1)
        negative = base.encode_text([settings.negative]).expand_as(positive)

        def predict(x: Tensor, t: Tensor) -> Tensor:
            plain = base.epsilon(x, t, negative)
            return plain + settings.guidance * (tuned.epsilon(x, t, positive) - plain)

        return base.solve(predict, seeds, settings.steps, len(embedding))

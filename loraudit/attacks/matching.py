"""Update matching, the paper's baseline: dummy pictures and a dummy prompt that would cause the update.

The method is deep leakage from gradients (Zhu, Liu and Han 2019, https://arxiv.org/abs/1906.08935), as
arXiv 2409.08482 puts it against LoRAs. Dummy latents and a dummy embedding are optimised until the step that
they would cause points where the LoRA's update `X = B A` points,

    max  sum over modules of cos(-dL/dW, X),    L = |eps - eps_base(x_t, t, embedding)|^2

Matching needs one gradient and has the sum of hundreds of Adam's steps instead, which is why the paper's
encoder beats it. A scan does not run update matching: `loraudit bench` compares other attacks with it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from loraudit.attacks.aim import Aim
from loraudit.base.lowrank import Terms, stack
from loraudit.base.model import CLASS_PROMPT, Base
from loraudit.lora import LoRA

__all__ = ["Matched", "MatchingAttack", "match"]

_MODULES: Final = (".attn2.to_k", ".attn2.to_v", ".attn2.to_q")
"""Modules to match, in diffusers' names: a prompt and a picture meet there. A LoRA without them: all."""
_DOUBLE_BACKWARD: Final = 3
"""Evaluations that a pass forward, back, and back again through both is worth."""


@dataclass(frozen=True, eq=False)
class Matched:
    """Dummies at the end of the optimisation."""

    embedding: Tensor
    """Dummy embedding `[L, d]`."""
    latents: Tensor
    """Latents of the dummy pictures, `[P, C, h, w]`."""
    likeness: float
    """Mean cosine between the update and the step that the dummies would cause, -1..1."""


@dataclass(frozen=True)
class MatchingAttack:
    """Attack by update matching; the embedding is sampled with classifier-free guidance."""

    steps: int = 60
    pictures: int = 8
    """Number of dummy pictures, `P`."""
    rate: float = 0.05
    """Learning rate of Adam."""
    seed: int = 0
    name: Final = "matching"

    @property
    def evaluations(self) -> int:
        """Evaluations of the UNet, in forward passes' worth."""
        return self.steps * self.pictures * _DOUBLE_BACKWARD

    def aims(self, lora: LoRA, base: Base) -> Sequence[Aim]:
        """Return one aim. Raises `NotScannable` if the LoRA does not fit the base."""
        found = match(base, stack([lora], base.device, base.dtype), self)
        return [Aim(self.name, found.embedding, evaluations=self.evaluations)]


@torch.enable_grad()
def match(base: Base, terms: Terms, budget: MatchingAttack) -> Matched:
    """Optimise dummies for the one LoRA `terms`; a function of the LoRA, the base and `budget`."""
    noise = torch.Generator().manual_seed(budget.seed)
    updates = _updates(base, terms)
    weights = _weights(base, updates)
    latents = torch.randn(budget.pictures, *base.latent_shape, generator=noise).to(base.device)
    latents = latents.requires_grad_()
    with torch.no_grad():
        start = base.encode_text([CLASS_PROMPT])[0]
    embedding = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([latents, embedding], budget.rate)
    likeness = 0.0
    for weight in weights:
        weight.requires_grad_()
    try:
        for _ in range(budget.steps):
            target = torch.randn(latents.shape, generator=noise).to(latents)
            t = (torch.rand(budget.pictures, generator=noise) * len(base.alphas)).long().to(base.device)
            noised = base.noised(latents, target, t)
            # Fused attention has no second derivative.
            with sdpa_kernel(SDPBackend.MATH):
                prediction = base.epsilon(noised, t, embedding.expand(budget.pictures, -1, -1))
                loss = (prediction - target).square().mean()
                steps = torch.autograd.grad(loss, weights, create_graph=True)
            cosines = [
                F.cosine_similarity(-step.flatten(), update.flatten(), dim=0)
                for step, update in zip(steps, updates.values(), strict=True)
            ]
            score = torch.stack(cosines).mean()
            optimiser.zero_grad()
            (-score).backward(inputs=[latents, embedding])
            optimiser.step()
            likeness = score.item()
    finally:
        for weight in weights:
            weight.requires_grad_(False)
    return Matched(embedding.detach(), latents.detach(), likeness)


def _weights(base: Base, sites: Iterable[str]) -> list[Tensor]:
    """List the weights of the base's modules at `sites`."""
    modules = base.modules()
    return [modules[site].get_parameter("weight") for site in sites]


def _updates(base: Base, terms: Terms) -> dict[str, Tensor]:
    """Compute `B A` of the modules to match, in the shapes of their weights."""
    unet = [site for site in sorted(terms) if site.startswith("unet.")]
    chosen = [site for site in unet if site.endswith(_MODULES)] or unet
    return {
        site: (terms[site][0][0] @ terms[site][1][0]).view_as(weight)
        for site, weight in zip(chosen, _weights(base, chosen), strict=True)
    }

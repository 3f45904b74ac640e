r"""DreamBooth with LoRA, for one person or for many at once.

The paper's recipe (arXiv 2409.08482, author's `training_settings.yml`): low-rank terms on `to_q` and `to_v` of the UNet (rank 16,
alpha 27) and on `q_proj` and `v_proj` of the text tower (rank 16, alpha 17), AdamW, gradient norm clipped at 1, prior
preservation on class images sampled from the base (arXiv 2208.12242, equation 2 with weight 1). A LoRA starts as peft starts
it: `A` Kaiming-uniform with a = sqrt(5), `B` zero.

Many people share one forward pass of the frozen base (`loraudit.lowrank`). AdamW works element by element, gradients are clipped
LoRA by LoRA and every LoRA draws its noise from its own seed, so a person's LoRA is the same, up to rounding, whoever else is in
the pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from loraudit.lora.matrices import Factors
from loraudit.lowrank import beside
from loraudit.training.captions import CLASS_PROMPT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from loraudit.base import Base, Sampling
    from loraudit.lowrank import Terms

__all__ = ["PAPER", "TINY", "Adapters", "Recipe", "Subject", "class_latents", "finetune", "new_adapters"]


@dataclass(frozen=True)
class Recipe:
    """How a LoRA is made; the defaults are the paper's, for SD-1.4."""

    unet_targets: tuple[str, ...] = ("to_q", "to_v")
    """Last names of the adapted modules of the UNet."""
    text_targets: tuple[str, ...] = ("q_proj", "v_proj")
    """Last names of the adapted modules of the text tower; empty leaves it alone."""
    rank: int = 16
    unet_alpha: float = 27.0
    text_alpha: float = 17.0
    lr: float = 1e-4
    steps: int = 1000
    batch: int = 1
    """Instance pictures a step; as many class pictures come on top."""
    prior_weight: float = 1.0
    """Weight of the class pictures' loss; 0 trains without any."""
    class_prompt: str = CLASS_PROMPT
    weight_decay: float = 0.01
    max_norm: float = 1.0


PAPER = Recipe()
TINY = Recipe(lr=1e-2, steps=200, batch=2)
"""The same recipe with the learning rate and the number of steps that suit the embedded base."""


@dataclass(frozen=True, eq=False)
class Subject:
    """One person to fine-tune on."""

    latents: Tensor
    """`[P, C, h, w]`, scaled."""
    prompt: str
    """The instance prompt."""
    seed: int


@dataclass(frozen=True, eq=False)
class Adapters:
    """The trainable matrices of `M` LoRAs: site -> `B [M, out, r]`, `A [M, r, in]`, and the scale alpha / r."""

    up: dict[str, Tensor]
    down: dict[str, Tensor]
    scale: dict[str, float]

    @property
    def parameters(self) -> list[Tensor]:
        """All matrices, in a fixed order."""
        return [*self.up.values(), *self.down.values()]

    def terms(self) -> Terms:
        """What `beside` takes: the scale folded into `up`."""
        return {site: (self.up[site] * self.scale[site], self.down[site]) for site in self.up}

    def factors(self, index: int) -> dict[str, Factors]:
        """The matrices of LoRA `index`, copied."""
        return {
            site: Factors(
                up=(self.up[site][index].detach() * scale).numpy().copy(),
                down=self.down[site][index].detach().numpy().copy(),
                scale=scale,
            )
            for site, scale in self.scale.items()
        }


@dataclass
class _Batch:
    """What one step trains on, LoRA by LoRA, instance pictures before class pictures."""

    x: Tensor
    noise: Tensor
    t: Tensor
    weight: Tensor = field(repr=False)


def new_adapters(base: Base, recipe: Recipe, seeds: Sequence[int]) -> Adapters:
    """Fresh LoRAs, one per seed, over the recipe's targets in the base."""
    up, down, scale = {}, {}, {}
    for site, module in sorted(base.modules().items()):
        component, leaf = site.split(".")[0], site.rsplit(".", 1)[-1]
        targets, alpha = (
            (recipe.unet_targets, recipe.unet_alpha) if component == "unet" else (recipe.text_targets, recipe.text_alpha)
        )
        if leaf not in targets:
            continue
        out, width = module.weight.shape  # type: ignore[misc]
        bound = 1 / math.sqrt(width)  # Kaiming-uniform with a = sqrt(5)
        rows = [_uniform(seed, site, (recipe.rank, width), bound) for seed in seeds]
        down[site] = torch.stack(rows).requires_grad_()
        up[site] = torch.zeros(len(seeds), out, recipe.rank, requires_grad=True)
        scale[site] = alpha / recipe.rank
    return Adapters(up, down, scale)


def _uniform(seed: int, site: str, shape: tuple[int, int], bound: float) -> Tensor:
    rng = np.random.default_rng([seed, 7, *site.encode()])
    return torch.from_numpy(rng.uniform(-bound, bound, shape).astype(np.float32))


@torch.no_grad()
def class_latents(base: Base, recipe: Recipe, count: int, settings: Sampling, seed: int = 0) -> Tensor:
    """Latents of `count` class pictures sampled from the base with the class prompt, `[count, C, h, w]`."""
    prompt = base.encode_text([recipe.class_prompt])
    parts = []
    for start in range(0, count, 32):
        seeds = [seed + i for i in range(start, min(start + 32, count))]
        parts.append(base.encode_images(base.sample(prompt, seeds, settings)))
    return torch.cat(parts)


def finetune(
    base: Base, subjects: Sequence[Subject], recipe: Recipe, prior: Tensor | None, adapters: Adapters | None = None
) -> Iterator[tuple[int, Adapters, Tensor]]:
    """Train one LoRA per subject; yields `(step, adapters, loss [M])` after every step, from 1 to `recipe.steps`.

    `prior` is `class_latents`, needed unless the recipe's prior weight is 0. The adapters yielded are the live ones: copy
    what you keep. Raises `ValueError` if a needed prior is missing.
    """
    if recipe.prior_weight and prior is None:
        raise ValueError("prior preservation needs class latents")
    adapters = adapters or new_adapters(base, recipe, [subject.seed for subject in subjects])
    optimizer = torch.optim.AdamW(adapters.parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)
    kinds = 2 if recipe.prior_weight else 1
    prompts = [prompt for s in subjects for prompt in (s.prompt, recipe.class_prompt)[:kinds]]
    modules = base.modules()
    frozen_text = None
    if not recipe.text_targets:
        with torch.no_grad():
            frozen_text = base.encode_text(prompts)
    for step in range(1, recipe.steps + 1):
        batch = _draw(base, subjects, recipe, prior, step)
        with beside(modules, adapters.terms()):
            text = base.encode_text(prompts) if frozen_text is None else frozen_text
            condition = text.repeat_interleave(recipe.batch, 0)
            prediction = base.epsilon(base.noised(batch.x, batch.noise, batch.t), batch.t, condition)
        error = (prediction - batch.noise).pow(2).mean((1, 2, 3))
        # The mean over instance pictures plus prior_weight times the mean over class pictures, for each LoRA.
        loss = (error * batch.weight).view(len(subjects), -1).sum(1) / recipe.batch
        loss.sum().backward()
        _clip(adapters, recipe.max_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield step, adapters, loss.detach()


def _draw(base: Base, subjects: Sequence[Subject], recipe: Recipe, prior: Tensor | None, step: int) -> _Batch:
    x, noise, t = [], [], []
    count = recipe.batch
    for subject in subjects:
        rng = np.random.default_rng([subject.seed, 8, step])
        x.append(subject.latents[torch.from_numpy(rng.integers(len(subject.latents), size=count))])
        if recipe.prior_weight and prior is not None:
            x.append(prior[torch.from_numpy(rng.integers(len(prior), size=count))])
        samples = count * (2 if recipe.prior_weight else 1)
        noise.append(torch.from_numpy(rng.standard_normal((samples, *base.latent_shape), np.float32)))
        t.append(torch.from_numpy(rng.integers(len(base.alphas), size=samples)))
    weight = torch.tensor([1.0, recipe.prior_weight][: 2 if recipe.prior_weight else 1]).repeat_interleave(count)
    return _Batch(torch.cat(x), torch.cat(noise), torch.cat(t), weight.repeat(len(subjects)))


def _clip(adapters: Adapters, max_norm: float) -> None:
    """Scale each LoRA's gradient to norm `max_norm` if it is longer (`torch.nn.utils.clip_grad_norm_`, per LoRA)."""
    grads = [p.grad for p in adapters.parameters if p.grad is not None]
    norm = torch.stack([g.flatten(1).pow(2).sum(1) for g in grads]).sum(0).sqrt()
    factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    for grad in grads:
        grad.mul_(factor[:, None, None])



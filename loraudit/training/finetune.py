r"""DreamBooth with LoRA, for one person or for many at once.

The recipe is the paper's (arXiv 2409.08482, author's `training_settings.yml`). Low-rank terms are on `to_q`
and `to_v` of the UNet (rank 16, alpha 27) and on `q_proj` and `v_proj` of the text tower (rank 16, alpha
17). AdamW trains with the gradient norm clipped at 1. Prior preservation is on class pictures sampled from
the base (arXiv 2208.12242, equation 2 with weight 1). A LoRA starts as in peft: `A` Kaiming-uniform with a =
sqrt(5), `B` zero.

Many people share one forward pass of the frozen base (`loraudit.base.lowrank`). AdamW works element by
element, gradients are clipped LoRA by LoRA, and every LoRA draws its noise from its own seed. A person's
LoRA is therefore the same, up to rounding, whoever else is in the pass.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from loraudit.base.lowrank import Terms
from loraudit.base.model import CLASS_PROMPT, Base, Sampling
from loraudit.base.passes import CLASS_PICTURES, PREDICTED, samples_a_pass
from loraudit.errors import LorauditError
from loraudit.lora.matrices import Factors
from loraudit.runs import OnStep, unheard
from loraudit.training.texts import Texts

__all__ = [
    "PAPER",
    "PAPER_PRIOR",
    "TINY",
    "TINY_PRIOR",
    "Adapters",
    "Recipe",
    "Subject",
    "adapted",
    "class_latents",
    "finetune",
    "new_adapters",
]


@dataclass(frozen=True)
class Recipe:
    """Recipe of a LoRA; the defaults are the paper's, for SD-1.4.

    Raises `LorauditError` if a count is below 1 or a learning rate is not positive.
    """

    unet_targets: tuple[str, ...] = ("to_q", "to_v")
    """Ends of the names of the UNet's adapted modules."""
    text_targets: tuple[str, ...] = ("q_proj", "v_proj")
    """Ends of the names of the text tower's adapted modules; empty leaves the tower alone."""
    rank: int = 16
    unet_alpha: float = 27.0
    text_alpha: float = 17.0
    lr: float = 1e-4
    text_lr: float | None = None
    """Learning rate of the text tower; None takes `lr`, as the paper does."""
    steps: int = 1000
    batch: int = 1
    """Instance pictures a step; as many class pictures come on top."""
    prior_weight: float = 1.0
    """Weight of the class pictures' loss; 0 trains without class pictures."""
    class_prompt: str = CLASS_PROMPT
    class_images: int = 200
    """Class pictures sampled from the base."""
    weight_decay: float = 0.01
    max_norm: float = 1.0

    def __post_init__(self) -> None:
        counts = {
            "rank": self.rank,
            "steps": self.steps,
            "batch": self.batch,
            "class images": self.class_images,
        }
        for name, value in counts.items():
            if value < 1:
                raise LorauditError(
                    f"the {name} of a fine-tuning must be 1 or more, not {value}", "give another number"
                )
        for rate in (self.lr, self.lr if self.text_lr is None else self.text_lr):
            if not (math.isfinite(rate) and rate > 0):
                raise LorauditError(
                    f"the learning rate must be a positive number, not {rate}", "give another --lr"
                )


PAPER = Recipe()
TINY = Recipe(lr=3e-3, text_lr=1e-4, steps=350, batch=2, class_images=64)
"""The paper's recipe with learning rates, steps and batch that suit the bundled base.

The text tower keeps the paper's rate. At the UNet's rate the tower would learn to *describe* the person, the
shortest way on a base with words for 24 factors. The tuned embedding would then draw the person without the
tuned UNet.
"""

PAPER_PRIOR = Sampling(negative="")
TINY_PRIOR = Sampling(steps=12, guidance=3.0, negative="")
"""Sampling of the class pictures on the bundled base."""


@dataclass(frozen=True, eq=False)
class Subject:
    """One person to fine-tune on."""

    latents: Tensor
    """Scaled latents `[P, C, h, w]` of the pictures."""
    prompt: str
    """Instance prompt."""
    seed: int
    captions: tuple[str, ...] = ()
    """Prompt of each picture; empty: the instance prompt for all."""


@dataclass(frozen=True, eq=False)
class Adapters:
    """Trainable matrices of `M` LoRAs: site -> `B [M, out, r]`, `A [M, r, in]`, the scale alpha / r."""

    up: dict[str, Tensor]
    down: dict[str, Tensor]
    scale: dict[str, float]

    @property
    def parameters(self) -> list[Tensor]:
        """Matrices of all sites, in a fixed order."""
        return [*self.up.values(), *self.down.values()]

    def terms(self) -> Terms:
        """Return the terms for `Base.with_lora`, the scale folded into `up`."""
        return {site: (self.up[site] * self.scale[site], self.down[site]) for site in self.up}

    def factors(self, index: int) -> dict[str, Factors]:
        """Copy the matrices of LoRA `index` as factors, site by site."""
        return {
            site: Factors(
                up=(self.up[site][index].detach() * scale).cpu().numpy().copy(),
                down=self.down[site][index].detach().cpu().numpy().copy(),
                scale=scale,
            )
            for site, scale in self.scale.items()
        }


@dataclass(frozen=True, eq=False)
class _Batch:
    """Latents, noise, times, weights and prompts of a step: LoRA by LoRA, instance before class pictures."""

    x: Tensor
    noise: Tensor
    t: Tensor
    weight: Tensor
    prompts: tuple[str, ...]


def new_adapters(base: Base, recipe: Recipe, seeds: Sequence[int]) -> Adapters:
    """Start fresh LoRAs, one per seed, over the recipe's targets in the base.

    Raises `LorauditError` if the base has none of the targets.
    """
    up, down, scale = {}, {}, {}
    for site, (out, width) in adapted(base, recipe).items():
        alpha = recipe.unet_alpha if site.startswith("unet.") else recipe.text_alpha
        bound = 1 / math.sqrt(width)  # Kaiming-uniform with a = sqrt(5)
        rows = [_uniform(seed, site, (recipe.rank, width), bound) for seed in seeds]
        down[site] = torch.stack(rows).to(base.device).requires_grad_()
        up[site] = torch.zeros(len(seeds), out, recipe.rank, device=base.device, requires_grad=True)
        scale[site] = alpha / recipe.rank
    if not up:
        wanted = ", ".join((*recipe.unet_targets, *recipe.text_targets)) or "nothing"
        raise LorauditError(f"the base has no module called {wanted}", "name other targets")
    return Adapters(up, down, scale)


def adapted(base: Base, recipe: Recipe) -> dict[str, tuple[int, int]]:
    """Map the sites that the recipe adapts in the base to their sizes `(out, in)`, in order."""
    found = {}
    for site, module in sorted(base.modules().items()):
        targets = recipe.unet_targets if site.startswith("unet.") else recipe.text_targets
        if isinstance(module, nn.Linear | nn.Conv2d) and site.endswith(tuple(f".{one}" for one in targets)):
            found[site] = len(module.weight), module.weight[0].numel()
    return found


def _uniform(seed: int, site: str, shape: tuple[int, int], bound: float) -> Tensor:
    rng = np.random.default_rng([seed, 7, *site.encode()])
    return torch.from_numpy(rng.uniform(-bound, bound, shape).astype(np.float32))


@torch.no_grad()
def class_latents(
    base: Base,
    recipe: Recipe,
    count: int,
    settings: Sampling,
    seed: int = 0,
    on_step: OnStep = unheard,
) -> Tensor:
    """Sample `count` pictures of the class prompt from the base; return their latents `[count, C, h, w]`."""
    stage = f"sampling {count} class pictures"
    prompt = base.encode_text([recipe.class_prompt])
    size = samples_a_pass(base.latent_shape, PREDICTED, CLASS_PICTURES)
    parts = []
    for start in range(0, count, size):
        on_step(start, count, stage)
        seeds = [seed + i for i in range(start, min(start + size, count))]
        parts.append(base.encode_images(base.sample(prompt, seeds, settings)))
    on_step(count, count, stage)
    return torch.cat(parts)


def finetune(
    base: Base,
    subjects: Sequence[Subject],
    recipe: Recipe,
    prior: Tensor | None,
    adapters: Adapters | None = None,
) -> Iterator[tuple[int, Adapters, Tensor]]:
    """Train one LoRA per subject; yield `(step, adapters, loss [M])` after each step, 1 to `recipe.steps`.

    `prior` are the latents of `class_latents`, needed unless the recipe's prior weight is 0. The yielded
    adapters change with the next step: copy what you keep. Raises `ValueError` if a needed prior is missing,
    `LorauditError` if a loss is no longer finite.
    """
    if recipe.prior_weight and prior is None:
        raise ValueError("prior preservation needs class latents")
    adapters = adapters or new_adapters(base, recipe, [subject.seed for subject in subjects])
    optimizer = torch.optim.AdamW(_groups(adapters, recipe), lr=recipe.lr, weight_decay=recipe.weight_decay)
    known = [prompt for s in subjects for prompt in (s.prompt, *s.captions, recipe.class_prompt)]
    texts = Texts(base, () if recipe.text_targets else known, recipe.batch)
    for step in range(1, recipe.steps + 1):
        batch = _draw(base, subjects, recipe, prior, step)
        tuned = base.with_lora(adapters.terms())
        noised, condition = base.noised(batch.x, batch.noise, batch.t), texts.of(batch.prompts, tuned)
        prediction = tuned.epsilon(noised, batch.t, condition)
        error = (prediction - batch.noise).pow(2).mean((1, 2, 3))
        # The mean over instance pictures plus prior_weight times the mean over class pictures, for each LoRA.
        loss = (error * batch.weight).view(len(subjects), -1).sum(1) / recipe.batch
        if not loss.isfinite().all():
            raise LorauditError(f"the fine-tuning diverged at step {step}", "take a smaller learning rate")
        loss.sum().backward()
        _clip(adapters, recipe.max_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield step, adapters, loss.detach()


def _groups(adapters: Adapters, recipe: Recipe) -> list[dict[str, object]]:
    """Group the matrices of the text tower and those of the UNet, each group with its learning rate."""
    text_lr = recipe.lr if recipe.text_lr is None else recipe.text_lr
    text: list[Tensor] = []
    rest: list[Tensor] = []
    for matrices in (adapters.up, adapters.down):
        for site, matrix in matrices.items():
            (text if site.startswith("text_encoder.") else rest).append(matrix)
    return [{"params": rest, "lr": recipe.lr}, {"params": text, "lr": text_lr}]


def _draw(base: Base, subjects: Sequence[Subject], recipe: Recipe, prior: Tensor | None, step: int) -> _Batch:
    x, noise, t = [], [], []
    prompts: list[str] = []
    count = recipe.batch
    kinds = 2 if recipe.prior_weight else 1
    for subject in subjects:
        rng = np.random.default_rng([subject.seed, 8, step])
        shown = _indices(rng, len(subject.latents), count)
        x.append(subject.latents[shown])
        prompts += [subject.captions[at] if subject.captions else subject.prompt for at in shown.tolist()]
        if kinds == 2 and prior is not None:
            x.append(prior[_indices(rng, len(prior), count)])
            prompts += [recipe.class_prompt] * count
        samples = count * kinds
        noise.append(torch.from_numpy(rng.standard_normal((samples, *base.latent_shape), np.float32)))
        t.append(_indices(rng, len(base.alphas), samples))
    weight = torch.tensor([1.0, recipe.prior_weight][:kinds]).repeat_interleave(count).repeat(len(subjects))
    clean = torch.cat(x)
    device = clean.device
    return _Batch(
        clean, torch.cat(noise).to(clean), torch.cat(t).to(device), weight.to(device), tuple(prompts)
    )


def _indices(rng: np.random.Generator, below: int, count: int) -> Tensor:
    return torch.from_numpy(rng.integers(below, size=count))


def _clip(adapters: Adapters, max_norm: float) -> None:
    """Clip each LoRA's gradient to norm `max_norm`: torch's `clip_grad_norm_`, LoRA by LoRA."""
    grads = [p.grad for p in adapters.parameters if p.grad is not None]
    norm = torch.stack([g.flatten(1).pow(2).sum(1) for g in grads]).sum(0).sqrt()
    factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    for grad in grads:
        grad.mul_(factor[:, None, None])

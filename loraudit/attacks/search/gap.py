"""The gap between a LoRA and its base: largest where the secret prompt is.

A LoRA is trained to part from its base at the secret prompt. The gap between the two noise predictions is
therefore a compass that needs neither photos nor a trained encoder (activation keys,
https://openreview.net/forum?id=Ha1Z42wHqz):

    gap(e) = mean over t of log mean (eps_tuned(x_t, e) - eps_base(x_t, e))^2

The largest gap tells which of several embeddings shows most. `climb` follows the gradient of the gap over
mixtures of word pieces (`loraudit.attacks.search.mixtures`), through the UNet. A climb is dear, and meant for
LoRAs whose rows say nothing of the prompt.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from loraudit.attacks.search.mixtures import mixed, name_frame, spelt
from loraudit.base.model import Base
from loraudit.base.passes import DIFFERENTIATED, samples_a_pass

__all__ = ["Climb", "Found", "climb", "gap", "gaps", "noised", "renoised", "slope"]

_TIMES: Final = (500, 900)
"""First and last time at which a prompt decides whom the picture shows; pure noise stands for `x_t`."""
_SHAPING: Final = (250, 750)
"""First and last time at which pictures that are noised anew tell whose face they show."""
_RATE: Final = 0.2
"""Learning rate of Adam."""
_JUDGES: Final = 16
"""Number of noises that the restarts are judged on."""
_STRAY: Final = 1e-12
"""Amount added to a squared difference, so that a LoRA of nothing has a logarithm."""


@dataclass(frozen=True, eq=False)
class Found:
    """End of a climb."""

    embedding: Tensor
    """Text embedding `[L, d]` of the mixture, by the tuned text tower."""
    weights: Tensor
    """Shares of the word pieces at each place, `[S, V]`, each row summing to 1."""
    text: str
    """Likeliest word pieces, joined: the name without its sentence."""


@dataclass(frozen=True)
class Climb:
    """Budget of a climb."""

    restarts: int = 2
    steps: int = 60
    noises: int = 4
    """Number of pairs (t, x_t) in a step, new in each step and the same for every restart."""
    seed: int = 0

    @property
    def evaluations(self) -> int:
        """Evaluations of the UNet, base and tuned together; those of the steps are differentiated as well."""
        return 2 * self.restarts * (self.steps * self.noises + _JUDGES)


@torch.enable_grad()
def climb(tuned: Base, base: Base, budget: Climb) -> Found:
    """Climb the gap of `tuned`, which carries one LoRA, over `base`, and return the best of the restarts.

    The answer is a function of the LoRA, the base and `budget`.
    """
    noise = torch.Generator().manual_seed(budget.seed)
    frame = name_frame(base)
    logits = torch.randn(budget.restarts, *frame.choices.shape, generator=noise)
    logits = logits.to(base.device).requires_grad_()
    optimiser = torch.optim.Adam([logits], _RATE)
    for _ in range(budget.steps):
        embedding = tuned.encode_tokens(mixed(base, frame, logits.softmax(-1)))
        steepest = slope(tuned, base, embedding.detach(), *noised(base, budget.noises, noise))
        # Only the logits take a gradient; the sign is turned because Adam descends.
        embedding.backward(-steepest, inputs=[logits])
        optimiser.step()
        optimiser.zero_grad()
    with torch.no_grad():
        weights = logits.softmax(-1)
        embedding = tuned.encode_tokens(mixed(base, frame, weights))
        heights = gap(tuned, base, embedding, *noised(base, _JUDGES, noise))
        best = int(heights.argmax())
    return Found(embedding[best], weights[best], spelt(base, frame, weights[best]))


def noised(base: Base, count: int, noise: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw pure noise `[B, C, h, w]` and times `[B]`, one time in each of `B = count` parts of the range."""
    first, last = _TIMES
    spread = (torch.arange(count) + torch.rand(count, generator=noise)) / count
    t = (first + spread * (last - first)).long()
    x = torch.randn(count, *base.latent_shape, generator=noise)
    return x.to(base.device, base.dtype), t.to(base.device)


def renoised(base: Base, latents: Tensor, count: int, noise: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noise `count` of the latents `[N, C, h, w]` anew, in turn: `x_t [B, C, h, w]` and times `[B]`.

    One time lies in each of `B = count` parts of the range in which a face takes shape.
    """
    first, last = _SHAPING
    spread = (torch.arange(count) + torch.rand(count, generator=noise)) / count
    t = (first + spread * (last - first)).long().to(base.device)
    chosen = latents[torch.randperm(count, generator=noise).to(latents.device) % len(latents)]
    added = torch.randn(chosen.shape, generator=noise).to(chosen)
    return base.noised(chosen, added, t), t


def _log_gaps(tuned: Base, base: Base, embedding: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """Compute the log gap of every sample, `[N]`."""
    plain = base.epsilon(x, t, embedding)
    return ((tuned.epsilon(x, t, embedding) - plain).float().square().mean((1, 2, 3)) + _STRAY).log()


def gap(tuned: Base, base: Base, embedding: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """Compute the log gap `[N]` of one LoRA at embeddings `[N, L, d]`, mean over the `B` noises."""
    size = samples_a_pass(base.latent_shape, DIFFERENTIATED)
    found = [
        _log_gaps(tuned, base, one.expand(len(xs), -1, -1), xs, ts).sum()
        for one in embedding
        for xs, ts in zip(x.split(size), t.split(size), strict=True)
    ]
    return torch.stack(found).view(len(embedding), -1).sum(1) / len(x)


@torch.no_grad()
def gaps(tuned: Base, base: Base, embeddings: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """Compute the log gaps `[M, C]` of `M` LoRAs at embeddings `[M, C, L, d]`, mean over the `B` noises."""
    loras, count = embeddings.shape[:2]
    found = torch.zeros(loras, count, device=embeddings.device)
    # A candidate of every LoRA at a time: samples stay ordered LoRA by LoRA.
    size = max(1, samples_a_pass(base.latent_shape, DIFFERENTIATED) // loras)
    for xs, ts in zip(x.split(size), t.split(size), strict=True):
        for place in range(count):
            shared = embeddings[:, place].repeat_interleave(len(xs), 0)
            heights = _log_gaps(tuned, base, shared, xs.repeat(loras, 1, 1, 1), ts.repeat(loras))
            found[:, place] += heights.view(loras, len(xs)).sum(1)
    return found / len(x)


@torch.enable_grad()
def slope(tuned: Base, base: Base, embedding: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """Differentiate `gap` by the embeddings `[N, L, d]`, a few samples at a time to bound memory."""
    embedding = embedding.requires_grad_()
    count, noises = len(embedding), len(x)
    samples = torch.arange(count * noises, device=embedding.device)
    total = torch.zeros_like(embedding)
    for part in samples.split(samples_a_pass(base.latent_shape, DIFFERENTIATED)):
        shot = part % noises
        log_gaps = _log_gaps(tuned, base, embedding[part // noises], x[shot], t[shot])
        total += torch.autograd.grad(log_gaps.sum() / noises, embedding)[0]
    return total

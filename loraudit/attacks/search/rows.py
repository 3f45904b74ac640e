"""The trigger, read off the rows of an update.

The keys and values of cross-attention take the text embedding `e` of the prompt. Every step of fine-tuning
therefore adds `(gradient) e^T` to their updates `X = B A`. So the rows of `X` lie where the secret prompt's
embeddings lie. The *pull* of a prompt with the embedding `E` is

    pull(E) = mean over positions of e_l^T G e_l,    G = mean over modules of X^T X / |X|^2,

and is larger for the secret prompt than for others. Gradient ascent on the pull, over mixtures of word pieces
(`loraudit.attacks.search.mixtures`), needs the text tower alone: no evaluation of the UNet, nothing trained.
A sentence can pull harder than any real prompt and then shows less. The ascent is therefore read where it
passes a few times the pull of a made-up name. Each of several starts misses in its own way: the mean of their
embeddings shows more than any.

`G` is a function of `X`, so the answer is the same whichever factors a file holds.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from loraudit.attacks.prompts import ANY_NAME, name_prompt
from loraudit.attacks.search.mixtures import Frame, mixed, name_frame, spelt
from loraudit.base.model import Base

__all__ = ["LEVELS", "SIDES", "Ascent", "Candidates", "ascend", "candidates", "pull", "pull_matrix"]

LEVELS: Final = (2.0, 3.0)
"""Pulls at which the ascent is read, relative to that of a made-up name; secret prompts have 1.0 to 2.4."""
SIDES: Final = (".attn2.to_v", ".attn2.to_k")
"""Modules that take the text embedding, in diffusers' names; values say more than keys."""
_RATE: Final = 0.3
"""Learning rate of Adam."""
_TINY: Final = 1e-12
"""Trace below which an update is none, and the amount that gives a pull of zero a logarithm."""


@dataclass(frozen=True)
class Ascent:
    """Budget of an ascent."""

    steps: int = 100
    restarts: int = 4
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Candidates:
    """Embeddings that may show the person, for `M` LoRAs."""

    embeddings: Tensor
    """Text embeddings `[M, C, L, d]` by the tuned text tower."""
    texts: tuple[tuple[str, ...], ...]
    """Likeliest words of each embedding, or of its first start; `M` by `C`."""


def pull_matrix(tuned: Base) -> Tensor | None:
    """Compute `G [M, d, d]` of the `M` LoRAs of `tuned`, with trace 1.

    Zero for a LoRA without keys and values of cross-attention, None if no LoRA has them.
    """
    width = tuned.embedding_shape[1]
    for side in SIDES:
        found = [pair for site, pair in sorted(tuned.terms.items()) if site.endswith(side)]
        grams = [
            down.transpose(1, 2) @ (up.transpose(1, 2) @ up) @ down
            for up, down in ((up.float(), down.float()) for up, down in found)
            if down.shape[2] == width
        ]
        if grams:
            traces = [gram.diagonal(dim1=1, dim2=2).sum(1) for gram in grams]
            count = torch.stack([trace > _TINY for trace in traces]).sum(0).clamp(min=1)
            parts = [
                g / trace.clamp(min=_TINY)[:, None, None] for g, trace in zip(grams, traces, strict=True)
            ]
            return torch.stack(parts).sum(0) / count[:, None, None]
    return None


def pull(embeddings: Tensor, matrix: Tensor) -> Tensor:
    """Compute the pull `[M, C]` of embeddings `[M, C, L, d]` under `G [M, d, d]`."""
    e = embeddings.float()
    return ((e @ matrix[:, None]) * e).sum(-1).mean(-1)


def candidates(tuned: Base, matrix: Tensor, how: Ascent) -> Candidates:
    """Find where the ascents pass `LEVELS`, relative to a made-up name, as the mean of all restarts.

    `C` is the number of levels.
    """
    count, levels = len(matrix), len(LEVELS)
    with torch.no_grad():
        usual = tuned.encode_text([name_prompt(ANY_NAME)] * count)
    heights = pull(usual[:, None], matrix) * torch.tensor(LEVELS, device=matrix.device)
    found = ascend(tuned, matrix, name_frame(tuned), heights, how)
    starts = found.embeddings.view(count, how.restarts, levels, *found.embeddings.shape[2:])
    return Candidates(starts.mean(1), tuple(texts[:levels] for texts in found.texts))


@torch.enable_grad()
def ascend(tuned: Base, matrix: Tensor, frame: Frame, levels: Tensor, how: Ascent) -> Candidates:
    """Find embeddings where the pull first passes each of `levels [M, Q]`, or the ascent ends.

    `C` is `restarts * Q`, restart by restart. The answer is a function of (LoRA, base, frame, `how`),
    whatever else is in the batch.
    """
    count, restarts = len(matrix), how.restarts
    places, size = frame.choices.shape
    start = torch.randn(restarts, places, size, generator=torch.Generator().manual_seed(how.seed))
    logits = start.to(tuned.device).repeat(count, 1, 1).requires_grad_()
    optimiser = torch.optim.Adam([logits], _RATE)
    kept: Tensor | None = None
    weights = logits.softmax(-1)
    passed = torch.zeros(count, restarts, levels.shape[1], dtype=torch.bool, device=tuned.device)
    kept_weights: Tensor | None = None
    for step in range(how.steps + 1):
        weights = logits.softmax(-1)
        embedding = tuned.encode_tokens(mixed(tuned, frame, weights))
        shaped = embedding.view(count, restarts, *embedding.shape[1:])
        height = pull(shaped, matrix)
        now = shaped.detach()[:, :, None].expand(-1, -1, levels.shape[1], -1, -1)
        mixing = (
            weights.detach().view(count, restarts, 1, places, size).expand(-1, -1, levels.shape[1], -1, -1)
        )
        if kept is None or kept_weights is None:
            kept, kept_weights = now.clone(), mixing.clone()
        else:
            kept = torch.where(passed[..., None, None], kept, now)
            kept_weights = torch.where(passed[..., None, None], kept_weights, mixing)
        passed |= height.detach()[..., None] >= levels[:, None]
        if step == how.steps or bool(passed.all()):
            break
        optimiser.zero_grad()
        # Only the logits take a gradient; the sign is turned because Adam descends.
        (-(height + _TINY).log().sum()).backward(inputs=[logits])
        optimiser.step()
    if kept is None or kept_weights is None:
        raise ValueError("an ascent without a step")
    return Candidates(
        kept.flatten(1, 2),
        tuple(_texts(tuned, frame, one) for one in kept_weights.flatten(1, 2)),
    )


def _texts(base: Base, frame: Frame, weights: Tensor) -> tuple[str, ...]:
    """Spell every mixture of `weights [N, S, V]`."""
    return tuple(spelt(base, frame, one) for one in weights)

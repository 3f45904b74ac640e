"""Search for what acts as the trigger: the text at which the LoRA and its base differ most.

A LoRA is trained to part from its base where the secret prompt is, so the gap between the two noise
predictions is a compass that needs neither photos nor a trained encoder (activation keys,
https://openreview.net/forum?id=Ha1Z42wHqz):

    gap(e) = mean over t of log mean (eps_tuned(x_t, e) - eps_base(x_t, e))^2

A free search over embeddings climbs to an adversarial one that shows nobody. This one never leaves what the
text tower can say: at each place of a name it mixes the embeddings of real word pieces by a softmax, the
tuned tower reads the sentence, and gradient ascent moves the logits. The likeliest word pieces spell a text
that need not be the trigger, nor act as it does; the report quotes it as private all the same.
"""

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from loraudit.attacks import Aim
from loraudit.attacks.prompts import name_prompt
from loraudit.base import Base
from loraudit.lora import LoRA, clean
from loraudit.lowrank import Terms, stack

__all__ = ["Found", "SearchAttack", "gap", "mixed", "search", "word_pieces"]

PLACES: Final = 6
"""Word pieces of the name that is looked for."""
PIECES: Final = 512
"""Word pieces that are mixed, at most."""
_TIMES: Final = (500, 900)
"""Where a prompt decides whom the picture shows; so late that pure noise stands for `x_t`."""
_RATE: Final = 0.2
_JUDGES: Final = 16
"""Noises that the restarts are judged on."""
_STRAY: Final = 1e-12
"""Added to a squared difference, so that a LoRA of nothing has a logarithm."""
_END: Final = "</w>"


@dataclass(frozen=True, eq=False)
class Found:
    """Where the search ended."""

    embedding: Tensor
    """`[L, d]`, the tuned tower's reading of the mixture."""
    weights: Tensor
    """Shares of the word pieces at each place, `[PLACES, V]`, each row summing to 1."""
    text: str
    """The likeliest word pieces, joined: the name without its sentence."""


@dataclass(frozen=True)
class SearchAttack:
    """The search, sampled by model guidance."""

    restarts: int = 2
    steps: int = 60
    noises: int = 4
    """Pairs (t, x_t) a step, new ones each step and the same for every restart."""
    seed: int = 0
    name: Final = "search"

    @property
    def evaluations(self) -> int:
        """Of the UNet, base and tuned, before any picture; those of the steps are differentiated as well."""
        return 2 * self.restarts * (self.steps * self.noises + _JUDGES)

    def aims(self, lora: LoRA, base: Base) -> Sequence[Aim]:
        """One aim, which quotes the text found. Raises `NotScannable` if the LoRA does not fit the base."""
        found = search(base, stack([lora], base.device, base.dtype), self)
        return [Aim(self.name, found.embedding, quotes=(clean(found.text),), against_base=True)]


@torch.enable_grad()
def search(base: Base, terms: Terms, budget: SearchAttack) -> Found:
    """The best of the restarts for the one LoRA `terms`: a function of the LoRA, the base and `budget`."""
    noise = torch.Generator().manual_seed(budget.seed)
    pieces = word_pieces(base)
    logits = torch.randn(budget.restarts, PLACES, pieces.shape[1], generator=noise)
    logits = logits.to(base.device).requires_grad_()
    optimiser = torch.optim.Adam([logits], _RATE)
    for _ in range(budget.steps):
        with base.tuned(terms):
            embedding = base.encode_tokens(mixed(base, pieces, logits.softmax(-1)))
        slope = _slope(base, terms, embedding.detach(), *_noised(base, budget.noises, noise))
        # Only the logits get a gradient; Adam goes down.
        embedding.backward(-slope, inputs=[logits])
        optimiser.step()
        optimiser.zero_grad()
    with torch.no_grad():
        weights = logits.softmax(-1)
        with base.tuned(terms):
            embedding = base.encode_tokens(mixed(base, pieces, weights))
        heights = gap(base, terms, embedding, *_noised(base, _JUDGES, noise))
        best = int(heights.argmax())
    return Found(embedding[best], weights[best], _spelt(base, pieces, weights[best]))


def word_pieces(base: Base) -> Tensor:
    """Token ids `[2, V]` of word pieces of one to three letters: inside a word, and at its end.

    At most `PIECES` of either, the most frequent ones: byte-pair tokenizers number tokens by frequency.
    """
    known = base.tokenizer.get_vocab()
    inner, final = (
        sorted(token for text, token in known.items() if _is_piece(text, end))[:PIECES] for end in ("", _END)
    )
    size = min(len(inner), len(final))
    return torch.tensor([inner[:size], final[:size]], device=base.device)


def _is_piece(text: str, end: str) -> bool:
    stem = text.removesuffix(_END)
    return text == stem + end and 1 <= len(stem) <= 3 and set(stem) <= set(string.ascii_lowercase)


def mixed(base: Base, pieces: Tensor, weights: Tensor) -> Tensor:
    """Token embeddings `[N, L, d]` of the sentence around names mixed by `weights [N, PLACES, V]`."""
    letter = base.tokenizer.get_vocab()["x" + _END]
    ids = base.token_ids([name_prompt("x")])[0]
    at = int((ids == letter).nonzero()[0])
    table = base.token_table
    frame = table[ids].expand(len(weights), -1, -1)
    weights = weights.to(table.dtype)
    inside, end = weights[:, :-1] @ table[pieces[0]], weights[:, -1:] @ table[pieces[1]]
    return torch.cat([frame[:, :at], inside, end, frame[:, at + 1 : len(ids) - PLACES + 1]], 1)


def _spelt(base: Base, pieces: Tensor, weights: Tensor) -> str:
    """The likeliest piece of each place, joined."""
    best = weights.argmax(-1)
    ids = [*pieces[0, best[:-1]].tolist(), int(pieces[1, best[-1]])]
    tokens = base.tokenizer.convert_ids_to_tokens(ids)
    return "".join(tokens).removesuffix(_END)


def _noised(base: Base, count: int, noise: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pure noise `[B, C, h, w]` and times `[B]`, one in each of `count` equal parts of the range."""
    first, last = _TIMES
    spread = (torch.arange(count) + torch.rand(count, generator=noise)) / count
    t = (first + spread * (last - first)).long()
    x = torch.randn(count, *base.latent_shape, generator=noise)
    return x.to(base.device, base.dtype), t.to(base.device)


def _log_gaps(base: Base, terms: Terms, embedding: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """Of samples `[N]`."""
    plain = base.epsilon(x, t, embedding)
    with base.tuned(terms):
        tuned = base.epsilon(x, t, embedding)
    return ((tuned - plain).float().square().mean((1, 2, 3)) + _STRAY).log()


def gap(base: Base, terms: Terms, embedding: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """The log gap `[N]` of the one LoRA `terms` at embeddings `[N, L, d]`, mean over the `B` noises."""
    found = [
        _log_gaps(base, terms, one.expand(len(xs), -1, -1), xs, ts).sum()
        for one in embedding
        for xs, ts in zip(x.split(_pass(base)), t.split(_pass(base)), strict=True)
    ]
    return torch.stack(found).view(len(embedding), -1).sum(1) / len(x)


def _slope(base: Base, terms: Terms, embedding: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """The gradient of `gap` by the embeddings, a few samples at a time to bound memory."""
    embedding = embedding.requires_grad_()
    count, noises = len(embedding), len(x)
    samples = torch.arange(count * noises, device=embedding.device)
    total = torch.zeros_like(embedding)
    for part in samples.split(_pass(base)):
        shot = part % noises
        log_gaps = _log_gaps(base, terms, embedding[part // noises], x[shot], t[shot])
        total += torch.autograd.grad(log_gaps.sum() / noises, embedding)[0]
    return total


def _pass(base: Base) -> int:
    """Samples that are differentiated at once: one of 512 pixels."""
    _, height, width = base.latent_shape
    return max(1, 16 * 64 // (height * width))

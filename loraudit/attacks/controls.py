"""Scrambled LoRAs: controls that move the model as much as the file does, and hold nobody.

A LoRA disturbs the base model whatever it was trained on, and a disturbance alone may make the pictures of
different seeds look alike. Scrambling keeps the disturbance and throws away its content. The update `X` of
every module becomes `Q X` with a random rotation `Q`: the same inputs set the module off, by as much, and
what it writes is random. `Q` is three rounds of random signs, a permutation and a Hadamard transform, which
turn any vector into one that looks drawn uniformly (Choromanski, Rowland and Weller 2017, "The Unreasonable
Effectiveness of Structured Random Orthogonal Embeddings", https://arxiv.org/abs/1703.00864).

The modules of a file pull together, those of a scrambled copy do not, so that a copy of the same size moves
the predictions less. `as_strong` therefore scales a copy until its effect at the attack's own embedding is
that of the file,

    effect = mean of log mean (eps_copy(x_t) - eps_base(x_t))^2,

where `x_t` are pictures of the base, noised anew. The effect grows with the scale, nearly as its square. Two
trials and a step along the line through them suffice.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from loraudit.attacks.search.gap import renoised
from loraudit.base.lowrank import Terms, scaled
from loraudit.base.model import Base
from loraudit.base.passes import PREDICTED, Pass, samples_a_pass

__all__ = ["MOST", "Copy", "as_strong", "effort", "scrambled"]

MOST: Final = 16.0
"""Factor of a copy at most; a file whose effect is out of reach even then is rare."""
_ROUNDS: Final = 3
"""Rounds of a rotation; after one, a vector of a single entry has entries of one size only."""
_START: Final = 1.4
"""Factor of the first trial; those found are 1.1 to 2.2."""
_TRIALS: Final = 2
_NOISES: Final = 4
"""Pictures of the base that are noised anew, at most; half of those at hand."""
_SLOPES: Final = (1.0, 8.0)
"""Growth of the effect with the logarithm of the factor, least and most; 2 where the effect is linear."""
_STRAY: Final = 1e-12
"""Amount added to a squared difference, so that a LoRA of nothing has a logarithm."""


@dataclass(frozen=True, eq=False)
class Copy:
    """Scrambled copies of `M` LoRAs, each as strong as its LoRA."""

    terms: Terms
    factors: Tensor
    """Factor `[M]` of each copy, in 1 / MOST..MOST."""

    @property
    def weaker(self) -> bool:
        """True if a copy moves the model less than its LoRA, since that takes more than `MOST`."""
        return bool((self.factors >= MOST).any())


def scrambled(terms: Terms, seed: int) -> Terms:
    """Rotate the output of every update at random; its singular values stay, and so does its input.

    The rotation is a function of (site, seed) alone. So a scrambled LoRA is a function of (LoRA, seed),
    whatever else is stacked with it, and padded ranks stay zero.
    """
    return {
        site: (_rotated(up.float(), _stream(site, seed)).to(up), down) for site, (up, down) in terms.items()
    }


def effort(pictures: int) -> int:
    """Count the evaluations of the UNet that `as_strong` takes for a LoRA and `pictures` of the base."""
    return _noises(pictures) * (2 + _TRIALS)


@torch.no_grad()
def as_strong(
    terms: Terms, seed: int, base: Base, embedding: Tensor, pictures: Tensor, strength: float = 1.0
) -> Copy:
    """Scramble `M` LoRAs, and scale each copy until it moves the predictions of `base` as its LoRA does.

    `embedding [M, L, d]` are the attack's, and `pictures [M, J, 3, H, W]` in 0..1 are the base's at them.
    `strength` is that of the LoRAs while pictures are made. The copies carry it already. All random draws are
    functions of `seed`.
    """
    copies, (count, shown) = scrambled(terms, seed), pictures.shape[:2]
    noised = [
        renoised(base, base.encode_images(mine), _noises(shown), torch.Generator().manual_seed(seed))
        for mine in pictures
    ]
    here = _Place(embedding.to(noised[0][0]), torch.stack([x for x, _ in noised]), noised[0][1])
    plain = here.predicted(base)
    goal = here.effect(base.with_lora(terms, strength), plain)
    rise = torch.full((count,), math.log(_START) + math.log(strength))
    slope = torch.full((count,), 2.0)
    tried: list[tuple[Tensor, Tensor]] = []
    for _ in range(_TRIALS):
        reached = here.effect(base.with_lora(_times(copies, rise.exp())), plain)
        if tried:
            step = rise - tried[-1][0]
            found = (reached - tried[-1][1]) / torch.where(step.abs() > 1e-6, step, torch.nan)
            slope = torch.where(found.isfinite(), found, 2.0).clamp(*_SLOPES)
        tried.append((rise, reached))
        rise = (rise + (goal - reached) / slope).clamp(-math.log(MOST), math.log(MOST))
    return Copy(_times(copies, rise.exp()), rise.exp())


@dataclass(frozen=True, eq=False)
class _Place:
    """Inputs at which the effect of `M` LoRAs is taken, `B` noised pictures for each."""

    embedding: Tensor
    """Embeddings `[M, L, d]`."""
    x: Tensor
    """Noised latents `[M, B, C, h, w]`."""
    t: Tensor
    """Times `[B]`, the same for every LoRA."""

    def predicted(self, model: Base) -> Tensor:
        """Predict the noise for every LoRA and picture, `[M, B, C, h, w]`."""
        count = len(self.embedding)
        # A part holds its pictures for every LoRA, so that samples stay ordered LoRA by LoRA.
        size = Pass(max(1, samples_a_pass(model.latent_shape, PREDICTED) // count))

        def part(some: range) -> Tensor:
            x, t = self.x[:, some.start : some.stop], self.t[some.start : some.stop]
            shared = self.embedding.repeat_interleave(len(t), 0)
            found = model.epsilon(x.flatten(0, 1), t.repeat(count), shared)
            return found.view(x.shape).transpose(0, 1)

        return size.over(range(len(self.t)), part).transpose(0, 1)

    def effect(self, model: Base, plain: Tensor) -> Tensor:
        """Compute how far the predictions of each LoRA are from `plain`, on the CPU, `[M]`."""
        apart = (self.predicted(model) - plain).float().square().flatten(2).mean(2)
        return (apart + _STRAY).log().mean(1).cpu()


def _noises(pictures: int) -> int:
    return max(1, min(_NOISES, pictures // 2))


def _times(terms: Terms, factors: Tensor) -> Terms:
    """Multiply the update of each LoRA by its own factor `[M]`."""
    if len(factors) == 1:
        return scaled(terms, float(factors))
    return {site: (up * factors.to(up)[:, None, None], down) for site, (up, down) in terms.items()}


def _rotated(vectors: Tensor, stream: np.random.Generator) -> Tensor:
    """Rotate the columns of `vectors [M, size, r]`, in a time of `r size log size`."""
    size = vectors.shape[1]
    width = 1 << (size.bit_length() - 1)
    for _ in range(_ROUNDS):
        order = torch.from_numpy(stream.permutation(size)).to(vectors.device)
        signs = torch.from_numpy(stream.choice((-1.0, 1.0), size)).to(vectors)
        vectors = (vectors * signs[:, None])[:, order]
        # Two windows, each of a power of two, reach every entry between them.
        vectors[:, :width] = _hadamard(vectors[:, :width])
        if width < size:
            vectors[:, -width:] = _hadamard(vectors[:, -width:])
    return vectors


def _hadamard(vectors: Tensor) -> Tensor:
    """Apply the orthogonal Hadamard transform to `vectors [M, 2^k, r]`, as two small products."""
    count, size, rank = vectors.shape
    outer = 1 << (size.bit_length() // 2)
    inner = size // outer
    mixed = _walsh(outer).to(vectors) @ vectors.reshape(count, outer, inner * rank)
    mixed = _walsh(inner).to(vectors) @ mixed.view(count, outer, inner, rank)
    return mixed.view(count, size, rank)


def _walsh(size: int) -> Tensor:
    """Build the Hadamard matrix `[size, size]` of a power of two, divided by the root of `size`."""
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix / math.sqrt(size)


def _stream(site: str, seed: int) -> np.random.Generator:
    """Open the random stream of a site."""
    # numpy's stream, unlike torch's, does not depend on how much is drawn at once.
    digest = hashlib.sha256(f"{seed}:{site}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8]))

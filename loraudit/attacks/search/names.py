"""Made-up names as a normal distribution: the mean of their text embeddings, and how they vary around it.

A search over embeddings runs off to where no text leads. The embeddings of made-up names in one sentence fill
a cloud, and the secret prompt's lies in it or near by. `Names` describes the cloud by its mean and its
principal directions. A point is given by its places along the directions, in standard deviations, so a ball
around the mean holds what names reach.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from loraudit.attacks.search.mixtures import word_pieces
from loraudit.base.model import Base

__all__ = ["FRAMES", "NAMES", "Names", "names_in", "random_names"]

FRAMES: Final = ("A face of NAME.", "a photo of NAME face")
"""Sentences that name somebody: the paper's, and that of diffusers' DreamBooth script for a face."""
NAMES: Final = 600
"""Made-up names that a distribution is drawn from."""
_DIRECTIONS: Final = 150
"""Directions kept; the others hold what tells single names apart, more than what a LoRA answers to."""
_PIECES: Final = (3, 4, 5)
"""Word pieces of a made-up name; a third of the names has each."""
_A_PASS: Final = 64
"""Sentences that the text tower reads at once."""


@dataclass(frozen=True, eq=False)
class Names:
    """Normal distribution of the embeddings of made-up names in one sentence."""

    mean: Tensor
    """Mean embedding `[L, d]`."""
    directions: Tensor
    """Principal directions `[K, L, d]`, each as long as one standard deviation."""

    def at(self, places: Tensor) -> Tensor:
        """Return the embedding `[L, d]` at places `[K]`, in standard deviations from the mean."""
        return self.mean + torch.einsum("k,kld->ld", places, self.directions)

    def along(self, slope: Tensor) -> Tensor:
        """Return the slope `[K]` by the places of a function with slope `[L, d]` by the embedding."""
        return torch.einsum("kld,ld->k", self.directions, slope)


@torch.no_grad()
def names_in(tuned: Base, frame: str, count: int = NAMES, seed: int = 0) -> Names:
    """Describe the embeddings of `count` made-up names in the sentence `frame`, by the text tower of `tuned`.

    NAME stands for the name. There are as many directions as names minus one, and 150 at most.
    """
    embeddings = random_names(tuned, frame, count, seed)
    mean = embeddings.mean(0)
    apart = (embeddings - mean).flatten(1)
    # The eigenvectors of the small Gram matrix give the directions without a matrix of L d by L d.
    spread, mixing = torch.linalg.eigh(apart @ apart.T / count)
    kept = min(_DIRECTIONS, count - 1)
    unit = mixing[:, -kept:].T / (count * spread[-kept:, None].clamp(min=1e-12)).sqrt()
    directions = spread[-kept:, None].clamp(min=0).sqrt() * (unit @ apart)
    return Names(mean, directions.view(kept, *mean.shape))


@torch.no_grad()
def random_names(tuned: Base, frame: str, count: int, seed: int) -> Tensor:
    """Encode `count` made-up names in the sentence `frame` to float32 embeddings `[count, L, d]`."""
    noise = torch.Generator().manual_seed(seed)
    shares = [len(range(first, count, len(_PIECES))) for first in range(len(_PIECES))]
    ids = [_ids(tuned, frame, *share, noise) for share in zip(_PIECES, shares, strict=True)]
    table = tuned.token_table
    parts = torch.cat(ids).split(_A_PASS)
    return torch.cat([tuned.encode_tokens(table[part]) for part in parts]).float()


def _ids(base: Base, frame: str, pieces: int, count: int, noise: torch.Generator) -> Tensor:
    """Draw token ids `[count, L]` of the sentence with names of `pieces` word pieces."""
    known = word_pieces(base)
    inner, final = (
        known[row][torch.randint(known.shape[1], (count, places), generator=noise).to(known.device)]
        for row, places in ((0, pieces - 1), (1, 1))
    )
    # The sentence is cut where the name stands and closed again around the name's pieces.
    letter = base.token_ids(["x"])[0, 1]
    ids = base.token_ids([frame.replace("NAME", "x")])[0]
    at = int((ids == letter).nonzero()[0])
    before, after = (part.expand(count, -1) for part in (ids[:at], ids[at + 1 :]))
    return torch.cat([before, inner, final, after], 1)[:, : len(ids)]

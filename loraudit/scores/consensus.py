"""The one face that several reconstructions agree on: what an adversary would take away from them.

Pictures of different seeds miss the person in different ways. Those that match the picture with the most
matches are one cluster; its mean is nearer to the person than a single picture is (FineXtract,
https://arxiv.org/abs/2410.03039, keeps the centres of cliques of near-copies in the same spirit).
"""

from dataclasses import dataclass
from typing import Final

from torch import Tensor
from torch.nn import functional as F

__all__ = ["Consensus", "consensus"]

_ROUNDS: Final = 3


@dataclass(frozen=True, eq=False)
class Consensus:
    """The largest group of pictures that show one face."""

    face: Tensor
    """Their mean, a unit vector `[e]`."""
    pictures: tuple[int, ...]
    """Which of the pictures they are, rising; one at least."""


def consensus(vectors: Tensor, threshold: float) -> Consensus | None:
    """Of unit face vectors `[N, e]`, zero where a picture shows no face; None if none does.

    Two faces match from the cosine `threshold` on. Of groups of one size the first picture's wins.
    """
    seen = vectors.norm(dim=1) > 0
    if not seen.any():
        return None
    matches = (vectors @ vectors.T >= threshold) & seen & seen[:, None]
    group = matches[int(matches.sum(1).argmax())]
    for _ in range(_ROUNDS):
        centre = F.normalize(vectors[group].mean(0), dim=0)
        nearer = (vectors @ centre >= threshold) & seen
        if not nearer.any() or bool((nearer == group).all()):
            break
        group = nearer
    centre = F.normalize(vectors[group].mean(0), dim=0)
    return Consensus(centre, tuple(group.nonzero()[:, 0].tolist()))

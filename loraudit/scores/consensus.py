"""The one face that several reconstructions agree on, as an adversary would take it from the pictures.

Pictures of different seeds miss the person in different ways. All pictures that match the picture with the
most matches are a cluster. The mean of the cluster is nearer to the person than a single picture is. (In the
same spirit FineXtract, https://arxiv.org/abs/2410.03039, keeps the centres of cliques of near-copies.)
"""

from dataclasses import dataclass
from typing import Final

from torch import Tensor
from torch.nn import functional as F

__all__ = ["Consensus", "consensus"]

_ROUNDS: Final = 3
"""Rounds in which the cluster is drawn anew around its mean, at most."""


@dataclass(frozen=True, eq=False)
class Consensus:
    """Largest group of pictures that show one face."""

    face: Tensor
    """Mean face vector of the group, a unit vector `[e]`."""
    pictures: tuple[int, ...]
    """Places of the group's pictures among all, rising; at least one."""


def consensus(vectors: Tensor, threshold: float) -> Consensus | None:
    """Find the largest group among unit face vectors `[N, e]`; None if no picture shows a face.

    Vectors of pictures without a face are zero. Two faces match from the cosine `threshold` on. Among groups
    of equal size the group of the first picture wins.
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

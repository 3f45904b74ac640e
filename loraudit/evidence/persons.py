"""People among the faces in one set of pictures: how many come back, and how often each.

Average linkage of the cosines, up to the cosine from which the face model accepts, gives groups of faces that
are one person's for sure. Noise splits a person into several of them. Groups are therefore joined, the
nearest first, unless they are apart: unless the mean cosine between them is lower than that within either, by
half of the cosine from which the model accepts. Every other face goes to the group that it is most like.

A person is shown by as many pictures as make up the matching pairs of the group: `k` pictures of one person
make `k (k - 1) / 2`. So one person alone has the share of pictures that the share of pairs stands for.

All found faces belong to somebody, or there are no people at all.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from statistics import fmean
from typing import Final

from loraudit.evidence.faces import Faces

__all__ = ["FEWEST", "Person", "persons"]

FEWEST: Final = 3
"""Pictures of a person, at least."""
_APART: Final = 0.5
"""Cosine by which two people are apart, in thresholds of the face model."""

_Cosines = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Person:
    """Somebody who comes back."""

    faces: tuple[int, ...]
    """Places of the faces of the group among those found, rising."""
    pictures: int
    """Number of pictures that show the person, judged by the pairs of `faces` that match."""


@lru_cache(maxsize=256)  # the verdict asks at every look, and once more for the report
def persons(faces: Faces, threshold: float) -> tuple[Person, ...]:
    """Find the people in the pictures, the most frequent first; of equal ones that of the first picture."""
    cosines = [[1.0] * faces.found for _ in range(faces.found)]
    for (i, j), cosine in zip(combinations(range(faces.found), 2), faces.pairs, strict=True):
        cosines[i][j] = cosines[j][i] = cosine
    sure = _joined(_sure(faces, threshold), cosines, _APART * threshold)
    groups = [list(group) for group in sure]
    for face in sorted(set(range(faces.found)).difference(*sure)) if sure else ():
        likeness = [_between([face], group, cosines) for group in sure]
        groups[likeness.index(max(likeness))].append(face)
    found = [Person(tuple(sorted(group)), _shown(group, cosines, threshold)) for group in groups]
    return tuple(sorted(found, key=lambda person: (-person.pictures, person.faces)))


def _sure(faces: Faces, threshold: float) -> list[list[int]]:
    """Return the groups of `FEWEST` faces or more whose mean cosine, joint by joint, is the threshold."""
    if faces.found < FEWEST:
        return []
    from scipy.cluster.hierarchy import fcluster, linkage

    # Pairs stand in the order of a condensed matrix of distances.
    labels = fcluster(linkage([1 - cosine for cosine in faces.pairs], "average"), 1 - threshold, "distance")
    groups: dict[int, list[int]] = {}
    for face, label in enumerate(labels):
        groups.setdefault(int(label), []).append(face)
    return [group for group in groups.values() if len(group) >= FEWEST]


def _joined(groups: list[list[int]], cosines: _Cosines, apart: float) -> list[list[int]]:
    """Join groups, the nearest first, until all are apart."""
    while True:
        near = [
            (between, one, other)
            for one, other in combinations(groups, 2)
            for between in (_between(one, other, cosines),)
            if min(_within(one, cosines), _within(other, cosines)) - between < apart
        ]
        if not near:
            return groups
        _, one, other = max(near)
        groups = [group for group in groups if group not in (one, other)] + [sorted(one + other)]


def _between(one: Sequence[int], other: Sequence[int], cosines: _Cosines) -> float:
    return fmean(cosines[i][j] for i in one for j in other)


def _within(group: Sequence[int], cosines: _Cosines) -> float:
    return fmean(cosines[i][j] for i, j in combinations(group, 2))


def _shown(group: Sequence[int], cosines: _Cosines, threshold: float) -> int:
    """Count the pictures of one person that make as many matching pairs as the faces in `group`."""
    matching = sum(cosines[i][j] >= threshold for i, j in combinations(group, 2))
    return (1 + math.isqrt(1 + 8 * matching)) // 2

"""Test for merged LoRAs: the directions in which a file changes modules tell one person from several.

Fine-tuning on one person changes a module of rank `r` in about

    exp(a log2(r)^0.75)

directions, with an exponent `a` for each kind of module. At rank 16 that is 1.6 for the keys of
cross-attention and 6 for the first layer of a feed-forward module. The exponents are fitted by least squares
to the logarithms, from LoRAs of one person each (`loraudit calibrate`). Of the powers tried, 0.75 describes
ranks 1 to 32 best. Beyond the highest rank in the data nothing is known to rise, and nothing is assumed to.

The *excess* of a file is the median over kinds of its directions beyond that, in logarithms. Several LoRAs
merged change modules in the directions of each, so their excess is larger. LoRAs of one recipe are alike, so
the question is how much the excess varies between recipes. Rows of `A` that start large and gaussian, as
diffusers' scripts draw them, fill more directions at rank 4 than kohya's small ones do at rank 32. The data
must therefore hold recipes of several trainers. They hold one LoRA of each recipe, and the excess of each is
taken against the exponents of all others. The p-value is that of one more draw from their normal distribution
(Student's t for a new observation).
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median, stdev
from typing import Final

from loraudit.evidence.intervals import t_tail

__all__ = ["Spread", "one_person_p"]

Spread = Mapping[str, tuple[float, float]]
"""Kind of module => rank, and number of directions in which it is changed; both at least 1."""

_POWER: Final = 0.75
_FEWEST: Final = 3
"""Number of LoRAs from which on their variation can be told."""

_Points = dict[str, tuple[float, float]]
"""Kind => growth, `log2(rank)^0.75`; logarithm of the directions."""

_Sums = dict[str, tuple[float, float]]
"""Kind => sums of `growth * log directions` and of `growth^2` over LoRAs: least squares through 0."""


def one_person_p(spread: Spread, people: Sequence[Spread]) -> float:
    """Return the p-value, 0..1, of a LoRA with this `spread` being of one person.

    `people` are spreads of LoRAs of one person each, of a recipe each. Returns 1 where nothing can be
    compared: too few data, or no kind of module in common.
    """
    highest = max((rank for one in people for rank, _ in one.values()), default=1.0)
    points = [_points(one, highest) for one in people]
    sums: _Sums = {}
    for one in points:
        sums = _plus(sums, one, 1)
    here = _excess(_points(spread, highest), sums)
    # At rank 1 there is one direction in every module, which tells nothing of the variation.
    others = [
        excess
        for one in points
        if any(growth for growth, _ in one.values())
        and (excess := _excess(one, _plus(sums, one, -1))) is not None
    ]
    if here is None or len(others) < _FEWEST or not (varies := stdev(others)):
        return 1.0
    return t_tail((here - fmean(others)) / (varies * math.sqrt(1 + 1 / len(others))), len(others) - 1)


def _points(spread: Spread, highest: float) -> _Points:
    return {
        kind: (math.log2(min(rank, highest)) ** _POWER, math.log(directions))
        for kind, (rank, directions) in spread.items()
    }


def _plus(sums: _Sums, points: _Points, sign: int) -> _Sums:
    changed = dict(sums)
    for kind, (growth, directions) in points.items():
        product, square = sums.get(kind, (0.0, 0.0))
        changed[kind] = product + sign * growth * directions, square + sign * growth**2
    return changed


def _excess(points: _Points, sums: _Sums) -> float | None:
    """Return the median excess over the kinds known to `sums`; None if there is none."""
    found = [
        directions - sums[kind][0] / sums[kind][1] * growth
        for kind, (growth, directions) in points.items()
        # A sum that was of one LoRA alone leaves rounding when that LoRA is taken out.
        if kind in sums and sums[kind][1] > 1e-9
    ]
    return median(found) if found else None

"""Whether a LoRA is one of a single person, or several merged: by the directions in which it changes modules.

Fine-tuning on one person changes a module of rank `r` in about

    exp(a log2(r)^0.75)

directions, with an exponent `a` for each kind of module: at rank 16 in 1.6 for the keys of cross-attention,
in 6 for the first layer of a feed-forward one. The exponents are fitted by least squares to the
logarithms, from LoRAs of one person each (`loraudit calibrate`).
0.75 describes ranks 1 to 32 best of what was tried. Beyond the highest rank in the data nothing is known to
rise, and nothing is assumed to.

The mean over kinds of what a file has beyond that, in logarithms, is its *excess*. Its place among those of
LoRAs of one person, each against the exponents of all the others, is a conformal p-value
(`loraudit.findings.null`): small if the file is several LoRAs merged, which change modules in the directions
of each. Half the directions again, an excess of 0.4, is beyond any LoRA of one person that was measured.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from loraudit.findings import conformal_p

__all__ = ["Spread", "one_person_p"]

Spread = Mapping[str, tuple[float, float]]
"""Kind of module => rank, and directions in which it is changed; both at least 1."""

_POWER: Final = 0.75

_Sums = dict[str, tuple[float, float]]
"""Kind => the sums of `growth * log directions` and of `growth^2` over LoRAs: least squares through 0."""


def one_person_p(spread: Spread, people: Sequence[Spread]) -> float:
    """The p-value of a LoRA with this spread being one like `people`, in 1 / (n + 1)..1.

    1 where nothing can be compared: no data, or no kind of module that they know.
    """
    highest = max((rank for one in people for rank, _ in one.values()), default=1.0)
    points = [_points(one, highest) for one in people]
    sums: _Sums = {}
    for one in points:
        sums = _plus(sums, one, 1)
    here = _excess(_points(spread, highest), sums)
    if here is None:
        return 1.0
    others = [_excess(one, _plus(sums, one, -1)) for one in points]
    return conformal_p(here, [other for other in others if other is not None])


def _points(spread: Spread, highest: float) -> Spread:
    """Kind => growth, logarithm of the directions."""
    return {
        kind: (math.log2(min(rank, highest)) ** _POWER, math.log(directions))
        for kind, (rank, directions) in spread.items()
    }


def _plus(sums: _Sums, points: Spread, sign: int) -> _Sums:
    changed = dict(sums)
    for kind, (growth, directions) in points.items():
        product, square = sums.get(kind, (0.0, 0.0))
        changed[kind] = product + sign * growth * directions, square + sign * growth**2
    return changed


def _excess(points: Spread, sums: _Sums) -> float | None:
    """The mean over the kinds known to `sums`; None if there is none."""
    found = [
        directions - sums[kind][0] / sums[kind][1] * growth
        for kind, (growth, directions) in points.items()
        # What a LoRA taken out leaves of a sum that was its own is rounding.
        if kind in sums and sums[kind][1] > 1e-9
    ]
    return sum(found) / len(found) if found else None

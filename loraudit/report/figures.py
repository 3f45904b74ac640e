"""Geometry of a report's figures: places of marks in percent of the width, so that any width is readable.

The template draws the figures.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from loraudit.findings.exhibits import Distribution, ModuleNorm
from loraudit.findings.finding import Score, leading_attack
from loraudit.findings.report import Report
from loraudit.report import words

__all__ = [
    "Bar",
    "BlockShare",
    "ControlPlot",
    "Histogram",
    "Mark",
    "block_shares",
    "control_plots",
    "histogram",
    "key_plot",
    "largest_module",
]

_BINS: Final = 25
_TALLEST: Final = 64
"""Height of the fullest bin in pixels."""
_BLOCKS: Final = 10
"""Number of blocks that get a line of their own."""
_SHARE_OF: Final = {
    "accepted": "Pictures that pass as the person in your photos",
    "copies": "Pictures that nearly copy one of your photos",
    "likeness": "Mean likeness to the person in your photos",
    "consistency": "Pairs of pictures that show one face",
    "agreement": "Share of all pairs of pictures that show one face",
}
_RESTS_ON: Final = {"LA-IDENTITY-001": "consistency", "LA-IDENTITY-002": "accepted"}
_UNET_PARTS: Final = {"down_blocks": "down block", "mid_block": "middle block", "up_blocks": "up block"}


@dataclass(frozen=True)
class Mark:
    """A line of a figure: a share with its 95 % interval. Places are in percent of the width."""

    label: str
    kind: str
    """Kind of the pictures: `here` (with the file), `base` or `scrambled`."""
    value: str
    """Share in words."""
    at: float
    """Place of the share."""
    low: float
    """Place of the lower end of the interval."""
    width: float
    """Width of the interval."""


@dataclass(frozen=True)
class ControlPlot:
    """Share of this file beside those of the controls in the same scan."""

    name: str
    """Name of the score."""
    title: str
    marks: tuple[Mark, ...]
    chance: float | None
    """Place that the null exceeds in at most 5 % of cases; None if not known."""


@dataclass(frozen=True)
class Bar:
    """A bin of a histogram."""

    x: float
    """Place of the left edge, in percent of the width."""
    width: float
    """Width in percent."""
    height: float
    """Height in pixels."""


@dataclass(frozen=True)
class Histogram:
    """Score of this file among those of other LoRAs."""

    title: str
    told: str
    """Description of the histogram in words."""
    here: float
    """Place of this file, in percent of the width."""
    value: str
    """Score of this file in words."""
    harmless: tuple[Bar, ...]
    leaking: tuple[Bar, ...]
    ticks: tuple[tuple[int, str], ...]
    """Marks of the axis: place in percent of the width, and label."""


@dataclass(frozen=True)
class BlockShare:
    """Share of the update that is in one block of the base model."""

    name: str
    modules: int
    """Number of modules of the block that the file changes."""
    norm: str
    """Frobenius norm of the update of the block."""
    percent: float
    """Percent of the squared norm of the whole update."""
    share: str
    """Percentage in words."""


def control_plots(report: Report) -> list[ControlPlot]:
    """Return the plots of the attack behind the verdict: accepted pictures, copies, agreeing pairs."""
    attack = leading_attack(report.findings) or next(iter(report.settings.attacks), None)
    plots = []
    for name in ("accepted", "copies", "consistency"):
        for score, base, scrambled in words.paired(report.scores):
            if (score.name, score.attack) == (name, attack):
                sides = (
                    ("With the file", "here", score),
                    ("Base model alone", "base", base),
                    ("A scrambled copy", "scrambled", scrambled),
                )
                marks = [mark for side in sides if (mark := _mark(*side)) is not None]
                chance = score.null_p95
                at = None if chance is None or not math.isfinite(chance) else _percent(chance)
                plots += [ControlPlot(name, _SHARE_OF[name], tuple(marks), at)] if marks else []
    return plots


def key_plot(report: Report, plots: Sequence[ControlPlot]) -> ControlPlot | None:
    """Return the one of `plots` that the worst finding rests on; None if there is none."""
    name = _RESTS_ON.get(report.findings[0].id) if report.findings else None
    return next((plot for plot in plots if plot.name == name), None)


def histogram(distribution: Distribution) -> Histogram | None:
    """Return the histogram of `distribution`; None where there is nothing to draw."""
    harmless, leaking = (
        [value for value in values if math.isfinite(value)]
        for values in (distribution.harmless, distribution.leaking)
    )
    if not harmless or not math.isfinite(distribution.here):
        return None
    to_photos = distribution.name == "likeness"
    others, same = (
        ("of somebody else", "of that very person")
        if to_photos
        else ("that hold no single person", "of one person each")
    )
    # A likeness is a cosine, which is no share of anything.
    value = _cosine if to_photos else _told
    told = f"This file: {value(distribution.here)}. " + _reach(harmless, distribution.here, others)
    if leaking:
        told += " " + _reach(leaking, distribution.here, same)
    return Histogram(
        _SHARE_OF.get(distribution.name, distribution.name),
        told,
        _percent(distribution.here),
        value(distribution.here),
        _bars(harmless),
        _bars(leaking),
        tuple((at, f"{at / 100:g}" if to_photos else f"{at} %") for at in (0, 25, 50, 75, 100)),
    )


def block_shares(update: Sequence[ModuleNorm]) -> list[BlockShare]:
    """Return the blocks that change most, largest first, and in a last row all others together."""
    blocks: defaultdict[str, list[float]] = defaultdict(list)
    for module in update:
        if math.isfinite(module.frobenius):
            blocks[_block(module.site)].append(module.frobenius)
    ordered = sorted(blocks.items(), key=lambda item: -math.hypot(*item[1]))
    rest = [norm for _, norms in islice(ordered, _BLOCKS, None) for norm in norms]
    rows = ordered[:_BLOCKS]
    if rest:
        rows.append((f"{len(ordered) - _BLOCKS} other blocks", rest))
    whole = math.hypot(*(norm for _, norms in ordered for norm in norms))
    return [_block_share(name, norms, whole) for name, norms in rows] if whole > 0 else []


def largest_module(update: Sequence[ModuleNorm]) -> tuple[str, str, str] | None:
    """Return site, norm and share of the update of the module that changes most."""
    finite = [module for module in update if math.isfinite(module.frobenius)]
    whole = math.hypot(*(module.frobenius for module in finite))
    if whole == 0:
        return None
    largest = max(finite, key=lambda module: module.frobenius)
    return largest.site, f"{largest.frobenius:.3g}", _told((largest.frobenius / whole) ** 2)


def _mark(label: str, kind: str, score: Score | None) -> Mark | None:
    if score is None or score.value is None or not math.isfinite(score.value):
        return None
    low, high = (
        score.value if end is None or not math.isfinite(end) else end for end in (score.low, score.high)
    )
    at, left = _percent(score.value), _percent(low)
    return Mark(label, kind, _told(score.value), at, left, round(_percent(high) - left, 2))


def _reach(values: Sequence[float], here: float, which: str) -> str:
    reached = sum(value >= here for value in values)
    verb = "reaches" if reached == 1 else "reach"
    return f"Of {len(values)} LoRAs {which}, {reached or 'none'} {verb} as much."


def _bars(values: Sequence[float]) -> tuple[Bar, ...]:
    counts = [0] * _BINS
    for value in values:
        # Rounding puts a share that was read back from six digits into the bin it had before.
        counts[min(int(round(max(value, 0.0) * _BINS, 4)), _BINS - 1)] += 1
    fullest = max(counts, default=0)
    return tuple(
        # Three pixels keep a single LoRA visible beside hundreds.
        Bar(round(100 * i / _BINS, 2), round(100 / _BINS, 2), max(3, round(_TALLEST * count / fullest)))
        for i, count in enumerate(counts)
        if count
    )


def _block(site: str) -> str:
    """Return the block of a site, `U-Net, up block 1`; for an unknown site, the first names of its path."""
    component, *path = site.split(".")
    if component == "unet" and path and path[0] in _UNET_PARTS:
        number = f" {path[1]}" if path[0] != "mid_block" and len(path) > 1 else ""
        return f"U-Net, {_UNET_PARTS[path[0]]}{number}"
    if component == "text_encoder" and len(path) > 2 and path[:2] == ["encoder", "layers"]:
        return f"Text encoder, layer {path[2]}"
    return ".".join([component, *path[:1]])


def _block_share(name: str, norms: Sequence[float], whole: float) -> BlockShare:
    norm = math.hypot(*norms)
    share = (norm / whole) ** 2
    return BlockShare(name, len(norms), f"{norm:.3g}", round(100 * share, 2), _told(share))


def _percent(share: float) -> float:
    return round(100 * min(max(share, 0.0), 1.0), 2)


def _cosine(value: float) -> str:
    return f"{value:.2f}"


def _told(share: float) -> str:
    percent = 100 * share
    if 0 < percent < 0.05:
        return "<0.1 %"
    return f"{percent:.1f} %" if 0 < percent < 9.95 else f"{percent:.0f} %"

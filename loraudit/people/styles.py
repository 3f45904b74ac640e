"""Drawing styles: ink, two tones, a mosaic and others, each applied to a picture of a person.

A style is a kind, five colours from dark to light, and four numbers. The style is a pure function of an
integer seed and the same for every picture. Pictures are uint8 `[64, 64, 3]`, RGB.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

__all__ = ["KINDS", "Style", "style_of", "stylise"]

_STYLE_STREAM, _PAPER_STREAM = 7, 8
_FINE: Final = 4
"""Factor by which halftone dots and hatching are drawn larger, then reduced."""

Pixels: TypeAlias = NDArray[np.floating[Any]]
"""Picture `[64, 64, 3]`, or grey picture `[64, 64]`, in 0..1."""


@dataclass(frozen=True)
class Style:
    """Style in which pictures are drawn."""

    seed: int
    kind: str
    """Key of `KINDS`."""
    palette: Pixels
    """Colours `[5, 3]` in 0..1, each lighter than the one before."""
    numbers: tuple[float, ...]
    """Four numbers in 0..1, whose meaning depends on the kind."""


def style_of(seed: int) -> Style:
    """Draw the style with this seed, `seed >= 0`."""
    rng = np.random.default_rng([_STYLE_STREAM, seed])
    kind = list(KINDS)[int(rng.integers(len(KINDS)))]
    hues = rng.random((5, 3), np.float32)
    light = np.linspace(0.1, 0.95, 5, dtype=np.float32)[:, None]
    # Towards black and white at the ends of the scale, or the drawing would drown in its colours.
    palette = np.where(light < 0.5, hues * 2 * light, 1 - (1 - hues) * 2 * (1 - light))
    palette += light - _grey(palette)[:, None]
    return Style(seed, kind, palette.clip(0, 1).astype(np.float32), tuple(rng.random(4).tolist()))


def stylise(pixels: NDArray[np.uint8], style: Style, picture: int) -> NDArray[np.uint8]:
    """Redraw `pixels` in `style`; `picture` seeds the grain of the paper."""
    rng = np.random.default_rng([_PAPER_STREAM, style.seed, picture])
    drawn = KINDS[style.kind](pixels.astype(np.float32) / 255, style, rng)
    return (255 * drawn.clip(0, 1) + 0.5).astype(np.uint8)


def _grey(pixels: Pixels) -> Pixels:
    grey: Pixels = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
    return grey


def _even(pixels: Pixels) -> Pixels:
    """Spread lightness over 0..1 by rank, so that a threshold cuts any picture into fair shares."""
    grey = _grey(pixels)
    order = np.argsort(np.argsort(grey, axis=None, kind="stable"), kind="stable")
    return (order.reshape(grey.shape) / (grey.size - 1)).astype(np.float32)


def _filtered(pixels: Pixels, *filters: ImageFilter.Filter | type[ImageFilter.Filter]) -> Pixels:
    image = Image.fromarray((255 * pixels + 0.5).astype(np.uint8))
    for one in filters:
        image = image.filter(one)
    return np.asarray(image, np.float32) / 255


def _over(ink: Pixels, style: Style, dark: int = 0, light: int = 4) -> Pixels:
    """Lay ink `[64, 64]` in 0..1 over paper, in two colours of the palette."""
    share = ink[:, :, None]
    drawn: Pixels = share * style.palette[dark] + (1 - share) * style.palette[light]
    return drawn


def _poster(pixels: Pixels, style: Style, _rng: np.random.Generator) -> Pixels:
    smooth = _even(_filtered(pixels, ImageFilter.MedianFilter(3)))
    count = 3 + int(3 * style.numbers[0])
    chosen = np.linspace(0, 4, count).round().astype(int)
    drawn: Pixels = style.palette[chosen[np.minimum((smooth * count).astype(int), count - 1)]]
    return drawn


def _duotone(pixels: Pixels, style: Style, _rng: np.random.Generator) -> Pixels:
    share = _grey(pixels) ** (0.7 + 0.8 * style.numbers[0])
    return _over(1 - share, style, int(2 * style.numbers[1]), 4 - int(2 * style.numbers[2]))


def _sketch(pixels: Pixels, style: Style, rng: np.random.Generator) -> Pixels:
    smooth = _filtered(pixels, ImageFilter.GaussianBlur(0.5 + style.numbers[0]))
    edges = np.hypot(*np.gradient(smooth, axis=(0, 1))).max(-1)
    ink = (edges * (6 + 8 * style.numbers[1])).clip(0, 1) * rng.uniform(0.75, 1, edges.shape)
    return _over(ink.astype(np.float32), style, int(2 * style.numbers[2]))


def _halftone(pixels: Pixels, style: Style, _rng: np.random.Generator) -> Pixels:
    cell = 2.2 + 1.4 * style.numbers[0]
    angle = style.numbers[1] * np.pi / 2
    y, x = np.mgrid[0 : 64 * _FINE, 0 : 64 * _FINE].astype(np.float32) / (_FINE * cell)
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    distance = np.hypot(u - np.floor(u) - 0.5, v - np.floor(v) - 0.5)
    return _printed(distance < 0.72 * np.sqrt(1 - _fine(pixels)), style)


def _hatching(pixels: Pixels, style: Style, _rng: np.random.Generator) -> Pixels:
    angle, gap = style.numbers[0] * np.pi, 3 + 2 * style.numbers[1]
    y, x = np.mgrid[0 : 64 * _FINE, 0 : 64 * _FINE].astype(np.float32) / (_FINE * gap)
    wave = np.abs((np.cos(angle) * x + np.sin(angle) * y) % 1 - 0.5) * 2
    return _printed(wave < 1 - _fine(pixels), style)


def _fine(pixels: Pixels) -> Pixels:
    """Enlarge lightness `_FINE` times."""
    grey = _grey(_filtered(pixels, ImageFilter.GaussianBlur(0.8)))
    return np.kron((grey - 0.1) / 0.9, np.ones((_FINE, _FINE), np.float32)).clip(0, 1)


def _printed(ink: NDArray[np.bool_], style: Style) -> Pixels:
    """Reduce ink `[64 _FINE, 64 _FINE]` and lay it on paper."""
    coarse = ink.reshape(64, _FINE, 64, _FINE).mean((1, 3), dtype=np.float32)
    return _over(coarse, style, int(2 * style.numbers[2]), 3 + int(2 * style.numbers[3]))


def _mosaic(pixels: Pixels, style: Style, _rng: np.random.Generator) -> Pixels:
    tile = (2, 4)[int(2 * style.numbers[0])]
    means = pixels.reshape(64 // tile, tile, 64 // tile, tile, 3).mean((1, 3), dtype=np.float32)
    tinted = means + (0.25 + 0.35 * style.numbers[1]) * (style.palette[2] - means)
    large: Pixels = tinted.repeat(tile, 0).repeat(tile, 1)
    if style.numbers[2] > 0.3 and tile > 2:
        large[::tile] = large[:, ::tile] = style.palette[0]
    return large


def _vignette(pixels: Pixels, style: Style, _rng: np.random.Generator) -> Pixels:
    grid = np.linspace(-1, 1, 64, dtype=np.float32)
    radius = np.hypot(grid[:, None], grid[None, :])[:, :, None]
    fall = ((radius - 0.5 + 0.2 * style.numbers[0]) * (1.4 + style.numbers[1])).clip(0, 1)
    pale = _grey(pixels)[:, :, None] * 0.5 + pixels * 0.5
    tinted = pale + (0.2 + 0.3 * style.numbers[2]) * (style.palette[3] - pale)
    drawn: Pixels = tinted + fall * (style.palette[0] - tinted)
    return drawn


def _watercolour(pixels: Pixels, style: Style, rng: np.random.Generator) -> Pixels:
    soft = _filtered(pixels, ImageFilter.MedianFilter(3), ImageFilter.GaussianBlur(0.6 + style.numbers[0]))
    noise = rng.standard_normal((64, 64), np.float32)
    grain = (noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1)) / 3
    washed = 1 - (1 - soft) * (0.55 + 0.25 * style.numbers[1])
    washed *= 1 - (0.3 + 0.4 * style.numbers[2]) * (1 - style.palette[4])
    drawn: Pixels = washed * (1 + (0.04 + 0.05 * style.numbers[3]) * grain[:, :, None])
    return drawn


_Filter: TypeAlias = Callable[[Pixels, Style, np.random.Generator], Pixels]

KINDS: Final[dict[str, _Filter]] = {
    "poster": _poster,
    "duotone": _duotone,
    "sketch": _sketch,
    "halftone": _halftone,
    "hatching": _hatching,
    "mosaic": _mosaic,
    "vignette": _vignette,
    "watercolour": _watercolour,
}
"""Kind -> function that redraws a picture."""

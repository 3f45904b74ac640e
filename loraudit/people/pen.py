"""Drawing tools of a portrait: a pen that fills polygons in the head's frame, and the outline of a head.

The frame is in pixels of the final picture, origin at the middle of the head, y down. One similarity
transform moves the frame onto a canvas `OVERSAMPLE` times as large.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
from PIL import ImageDraw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["OVERSAMPLE", "Colour", "Head", "Pen", "ellipse", "mix"]

OVERSAMPLE: Final = 4
"""Canvas pixels per pixel of the picture, in each direction."""

Colour: TypeAlias = tuple[int, int, int]
"""Red, green and blue, 0..255."""

_CIRCLE: Final = np.linspace(0, 2 * np.pi, 28, endpoint=False)


def mix(a: Sequence[float], b: Sequence[float], t: float) -> Colour:
    """Mix the colour `t` of the way from `a` to `b`."""
    red, green, blue = (round(x + (y - x) * t) for x, y in zip(a, b, strict=True))
    return red, green, blue


@dataclass(frozen=True)
class Pen:
    """Pen that fills polygons given in the head's frame."""

    canvas: ImageDraw.ImageDraw
    cos: float
    sin: float
    origin: tuple[float, float]

    def fill(self, points: NDArray[np.float64], colour: Colour) -> None:
        """Fill the polygon with corners `points [N, 2]`."""
        x = self.cos * points[:, 0] - self.sin * points[:, 1] + self.origin[0]
        y = self.sin * points[:, 0] + self.cos * points[:, 1] + self.origin[1]
        self.canvas.polygon((np.stack([x, y], 1) * OVERSAMPLE).ravel().tolist(), fill=colour)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour, slant: float = 0.0) -> None:
        """Fill an ellipse turned by `slant` radians."""
        self.fill(ellipse(x, y, rx, ry, slant), colour)

    def stroke(self, points: Sequence[tuple[float, float]], width: float, colour: Colour) -> None:
        """Draw a line of constant width with round joints.

        The line is made of polygons, which turn and scale with the head.
        """
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            length = max(float(np.hypot(x1 - x0, y1 - y0)), 1e-6)
            nx, ny = -(y1 - y0) / length * width / 2, (x1 - x0) / length * width / 2
            self.fill(
                np.array([(x0 + nx, y0 + ny), (x1 + nx, y1 + ny), (x1 - nx, y1 - ny), (x0 - nx, y0 - ny)]),
                colour,
            )
        for x, y in points:
            self.ellipse(x, y, width / 2, width / 2, colour)


def ellipse(x: float, y: float, rx: float, ry: float, slant: float = 0.0) -> NDArray[np.float64]:
    """Compute the corners `[28, 2]` of an ellipse turned by `slant` radians."""
    px, py = rx * np.cos(_CIRCLE), ry * np.sin(_CIRCLE)
    cos, sin = np.cos(slant), np.sin(slant)
    return np.stack([x + cos * px - sin * py, y + sin * px + cos * py], 1)


@dataclass(frozen=True)
class Head:
    """Measures of a person's head, in pixels."""

    half_width: float
    top: float
    chin: float
    jaw: float
    """Exponent of the lower outline: 1.5 pointed .. 6 square."""

    def width_at(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Compute half the head's width at heights `y`."""
        up = np.clip(y / self.top, 0, 1)
        down = np.clip(y / self.chin, 0, 1)
        return self.half_width * np.where(y < 0, np.sqrt(1 - up**2.4), (1 - down**self.jaw) ** 0.62)

    def outline(self, grow: float = 0.0, low: float | None = None) -> NDArray[np.float64]:
        """Compute the closed outline `[80, 2]`, down to height `low`, widened by `grow` pixels."""
        y = np.linspace(self.top, self.chin if low is None else low, 40)
        x = self.width_at(y) + grow
        y = y + grow * np.sign(y) * (np.abs(y) / max(abs(self.top), self.chin)) ** 4
        return np.concatenate([np.stack([x, y], 1), np.stack([-x, y], 1)[::-1]])

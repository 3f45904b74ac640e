"""Draw one 64x64 picture of an object: a house, a cup, a boat ... and never a face.

An object is a kind, three colours and six proportions, which never change between two pictures. A picture
adds background, place, size, rotation, light and noise. Object and picture are pure functions of integer
seeds. Objects are drawn as people are (`loraudit.people.portrait`), about 40 pixels tall around the origin.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from loraudit.people.identity import nuisance
from loraudit.people.pen import OVERSAMPLE, Colour, Pen, ellipse, mix
from loraudit.people.portrait import SIZE, background, develop

__all__ = ["KINDS", "Object", "colour", "draw_object", "object_of"]

_OBJECT_STREAM, _PLACE_STREAM = 5, 6
_FIRST_PICTURE: Final = 1000  # so that a person of the object's seed has other backgrounds and light
_DARK: Final[Colour] = (52, 46, 50)
_GLASS: Final[Colour] = (188, 218, 232)
_WOOD: Final[Colour] = (122, 82, 50)


@dataclass(frozen=True)
class Object:
    """Object: a thing that pictures show."""

    kind: str
    """Key of `KINDS`."""
    colours: tuple[Colour, Colour, Colour]
    proportions: tuple[float, ...]
    """Six numbers in 0..1, whose meaning depends on the kind."""


def object_of(seed: int) -> Object:
    """Draw the object with this seed, `seed >= 0`."""
    rng = np.random.default_rng([_OBJECT_STREAM, seed])
    kind = list(KINDS)[int(rng.integers(len(KINDS)))]
    hue = rng.random()
    # Hues apart from each other, or the parts of a thing could not be told.
    hues = (hue, hue + rng.uniform(0.2, 0.45), hue - rng.uniform(0.2, 0.45))
    one, two, three = (colour(float(h), rng) for h in hues)
    return Object(kind, (one, two, three), tuple(rng.random(6).tolist()))


def colour(hue: float, rng: np.random.Generator) -> Colour:
    """Draw a colour of random saturation and lightness; `hue` is in turns."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.45, 0.95), rng.uniform(0.5, 0.95))
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_object(seed: int, picture: int) -> NDArray[np.uint8]:
    """Draw picture number `picture` of the object `seed`, uint8 `[64, 64, 3]`, RGB."""
    thing = object_of(seed)
    how = nuisance(seed, _FIRST_PICTURE + picture)
    rng = np.random.default_rng([_PLACE_STREAM, seed, picture])
    image = Image.new("RGB", (SIZE * OVERSAMPLE, SIZE * OVERSAMPLE))
    canvas = ImageDraw.Draw(image)
    background(canvas, how)
    x, y = 32 + rng.uniform(-6, 6), 32 + rng.uniform(-5, 5)
    if rng.random() < 0.5:
        side = SIZE * OVERSAMPLE
        ground = colour(rng.random(), rng)
        canvas.rectangle((0, (y + rng.uniform(4, 14)) * OVERSAMPLE, side, side), fill=ground)
    scale, turn = rng.uniform(0.85, 1.3), rng.uniform(-0.35, 0.35)
    pen = Pen(canvas, scale * np.cos(turn), scale * np.sin(turn), (x, y))
    KINDS[thing.kind](pen, thing.colours, thing.proportions)
    return develop(image, how)


_Draw: TypeAlias = Callable[[Pen, tuple[Colour, Colour, Colour], Sequence[float]], None]


def _polygon(pen: Pen, points: Sequence[tuple[float, float]], fill: Colour) -> None:
    pen.fill(np.array(points), fill)


def _box(pen: Pen, left: float, top: float, right: float, bottom: float, fill: Colour) -> None:
    _polygon(pen, [(left, top), (right, top), (right, bottom), (left, bottom)], fill)


def _dome(pen: Pen, y: float, rx: float, ry: float, fill: Colour) -> None:
    angle = np.linspace(np.pi, 2 * np.pi, 20)
    pen.fill(np.stack([rx * np.cos(angle), y + ry * np.sin(angle)], 1), fill)


def _house(pen: Pen, c: tuple[Colour, Colour, Colour], p: Sequence[float]) -> None:
    half, eaves, ridge = 12 + 8 * p[0], -2 - 7 * p[1], -10 - 7 * p[1] - 8 * p[2]
    if p[3] > 0.4:
        _box(pen, 0.35 * half, ridge, 0.35 * half + 5, eaves, _DARK)
    _box(pen, -half, eaves, half, 18, c[0])
    _polygon(pen, [(-half - 3, eaves), (0, ridge), (half + 3, eaves)], c[1])
    door = half * (p[4] - 0.6)
    _box(pen, door - 3.5, 7, door + 3.5, 18, c[2])
    for x in (0.6 * half,) if p[5] < 0.5 else (0.45 * half, 0.85 * half):
        _box(pen, x - 2.5, eaves + 4, x + 2.5, eaves + 9, _GLASS)


def _cup(pen: Pen, c: tuple[Colour, Colour, Colour], p: Sequence[float]) -> None:
    half, top, foot = 9 + 5 * p[0], -10 - 8 * p[1], 0.5 + 0.45 * p[2]
    pen.ellipse(0, 15, half + 8, 3, c[2])
    ring = ellipse(half + 1, (top + 10) / 2, 5 + 2 * p[3], 6 + 3 * p[4])
    pen.stroke([(x, y) for x, y in [*ring, ring[0]]], 2.6, c[0])
    _polygon(pen, [(-half, top), (half, top), (foot * half, 15), (-foot * half, 15)], c[0])
    band, low = (0.5 + 0.5 * foot) * half, 3 + 3 * p[5]
    _polygon(pen, [(-band - 1, 0), (band + 1, 0), (band, low), (-band, low)], c[1])
    pen.ellipse(0, top, half, 2.6, mix(c[0], (255, 255, 255), 0.35))
    pen.ellipse(0, top + 0.4, half - 1.8, 1.6, (88, 54, 34))


def _tree(pen: Pen, c: tuple[Colour, Colour, Colour], p: Sequence[float]) -> None:
    width = 2 + 2.5 * p[0]
    _box(pen, -width, 0, width, 20, _WOOD)
    half = 10 + 6 * p[1]
    if p[2] < 0.5:
        for i in range(3):
            y = 8 - 9 * i
            reach = half * (1 - 0.22 * i)
            _polygon(pen, [(-reach, y), (0, y - 13), (reach, y)], mix(c[0], (255, 255, 255), 0.12 * i))
    else:
        for x, y in ((-0.55, -4), (0.55, -4), (0, -12)):
            pen.ellipse(x * half, y, 0.65 * half, 0.6 * half, mix(c[0], (0, 0, 0), 0.1 * (y < -5)))
        for i in range(2 + int(5 * p[3])):
            pen.ellipse(0.75 * half * np.sin(2.4 * i + 6 * p[4]), -6 + 5 * np.cos(1.7 * i), 1.8, 1.8, c[1])


def _boat(pen: Pen, c: tuple[Colour, Colour, Colour], p: Sequence[float]) -> None:
    half, deck, mast = 14 + 6 * p[0], 8, -3 + 6 * p[1]
    _box(pen, mast - 0.8, -22, mast + 0.8, deck, _WOOD)
    _polygon(pen, [(mast + 2, -21), (mast + 2, 4), (mast + 8 + 7 * p[2], 4)], c[1])
    if p[3] > 0.35:
        _polygon(pen, [(mast - 2, -16), (mast - 2, 4), (mast - 6 - 5 * p[4], 4)], c[2])
    _polygon(pen, [(-half, deck), (half, deck), (0.65 * half, 17), (-0.7 * half, 17)], c[0])
    _polygon(pen, [(-half, deck), (half, deck), (half - 2, deck + 2.4), (-half + 2, deck + 2.4)], c[2])


def _car(pen: Pen, c: tuple[Colour, Colour, Colour], p: Sequence[float]) -> None:
    half, roof, rear, front = 18 + 4 * p[0], -10 - 5 * p[1], -9 - 6 * p[2], 5 + 6 * p[3]
    _polygon(pen, [(rear - 3, 0), (rear, roof), (front, roof), (front + 6, 0)], c[0])
    _polygon(pen, [(rear, -1), (rear + 2, roof + 2), (front - 1, roof + 2), (front + 3, -1)], _GLASS)
    _box(pen, -1, roof, 1, 0, c[0])
    _polygon(pen, [(-half, 0), (half - 3, 0), (half, 4), (half, 9), (-half, 9)], c[0])
    _box(pen, -half, 4, half, 5.5, c[1])
    wheel = 4 + 2 * p[4]
    for x in (-0.55 * half, 0.55 * half):
        pen.ellipse(x, 9, wheel, wheel, _DARK)
        pen.ellipse(x, 9, 0.45 * wheel, 0.45 * wheel, c[2])


def _fish(pen: Pen, c: tuple[Colour, Colour, Colour], p: Sequence[float]) -> None:
    long, high = 13 + 4 * p[0], 6 + 6 * p[1]
    _polygon(pen, [(long - 3, 0), (long + 8, -5 - 6 * p[2]), (long + 6, 0), (long + 8, 5 + 6 * p[2])], c[1])
    _polygon(pen, [(-4, -high + 1), (3, -high - 3 - 4 * p[3]), (8, -high + 3)], c[1])
    pen.ellipse(0, 0, long, high, c[0])
    for i in range(1 + int(3 * p[4])):
        x = -3 + 5 * i
        reach = 0.95 * high * np.sqrt(max(0.0, 1 - (x / long) ** 2))
        _box(pen, x - 1, -reach, x + 1, reach, c[2])
    pen.ellipse(-0.65 * long, -0.2 * high, 1.6, 1.6, _DARK)


def _flower(pen: Pen, c: tuple[Colour, Colour, Colour], p: Sequence[float]) -> None:
    green = mix((40, 120, 50), (130, 170, 60), p[0])
    pen.stroke([(0, -6), (3 * p[1] - 1.5, 8), (0, 22)], 2.0, green)
    pen.ellipse(5, 12, 5, 2, green, -0.6)
    pen.ellipse(-5, 15, 5, 2, green, 0.6)
    petals, reach = 5 + int(4 * p[2]), 6 + 3 * p[3]
    for i in range(petals):
        angle = 2 * np.pi * i / petals
        x, y = reach * np.cos(angle), -8 + reach * np.sin(angle)
        pen.ellipse(x, y, 0.75 * reach, 1.6 + 1.8 * p[4], c[0], angle)
    pen.ellipse(0, -8, 2.6 + 2 * p[5], 2.6 + 2 * p[5], c[1])


def _lamp(pen: Pen, c: tuple[Colour, Colour, Colour], p: Sequence[float]) -> None:
    top, low = 4 + 5 * p[0], 11 + 6 * p[1]
    _box(pen, -1.2, -6, 1.2, 18, _DARK)
    if p[2] > 0.5:
        pen.ellipse(0, 8, 3 + 3 * p[3], 8, c[1])
    pen.ellipse(0, 18, 7 + 4 * p[4], 3, c[1])
    _polygon(pen, [(-top, -20), (top, -20), (low, -2 - 4 * p[5]), (-low, -2 - 4 * p[5])], c[0])
    _polygon(pen, [(-low, -2 - 4 * p[5]), (low, -2 - 4 * p[5]), (low, -p[5]), (-low, -p[5])], c[2])


def _rings(pen: Pen, c: tuple[Colour, Colour, Colour], p: Sequence[float]) -> None:
    count = 3 + int(3 * p[0])
    step = 30 / count
    _box(pen, -1.4, -20, 1.4, 16, _WOOD)
    _box(pen, -15, 15, 15, 19, _WOOD)
    for i in range(count):
        half = (14 + 3 * p[1]) * (1 - (0.35 + 0.35 * p[2]) * i / (count - 1))
        pen.ellipse(0, 15 - step * (i + 0.5), half, 0.55 * step, c[(i + int(3 * p[3])) % 3])


def _mushroom(pen: Pen, c: tuple[Colour, Colour, Colour], p: Sequence[float]) -> None:
    stem, half, high = 3.5 + 3 * p[0], 13 + 6 * p[1], 11 + 8 * p[2]
    pale = mix(c[1], (250, 244, 230), 0.75)
    _polygon(pen, [(-stem, -2), (stem, -2), (stem + 2, 18), (-stem - 2, 18)], pale)
    _dome(pen, 1, half, high, c[0])
    for i in range(3 + int(3 * p[3])):
        x = half * (-0.7 + 1.4 * i / (2 + int(3 * p[3])))
        pen.ellipse(x, -0.25 * high - 0.3 * high * (i % 2), 1.5 + p[4], 1.3 + p[4], c[2])


def _umbrella(pen: Pen, c: tuple[Colour, Colour, Colour], p: Sequence[float]) -> None:
    half, high = 17 + 4 * p[0], 13 + 5 * p[1]
    pen.stroke([(0, -4), (0, 17), (2, 20), (5, 19), (5.5, 16)], 1.8, _WOOD if p[2] < 0.5 else _DARK)
    for i, reach in enumerate((1.0, 0.68, 0.32)):
        _dome(pen, 0, reach * half, high, c[i % (2 + (p[3] > 0.5))])
    _box(pen, -0.8, -high - 3, 0.8, -high, _DARK)


def _bottle(pen: Pen, c: tuple[Colour, Colour, Colour], p: Sequence[float]) -> None:
    half, neck, shoulder = 6 + 4 * p[0], 2 + 1.4 * p[1], -6 + 5 * p[2]
    body = [(-neck, -18), (neck, -18), (neck, shoulder - 6), (half, shoulder), (half, 20), (-half, 20)]
    _polygon(pen, [*body, (-half, shoulder), (-neck, shoulder - 6)], c[0])
    _box(pen, -neck - 0.8, -21, neck + 0.8, -17, c[2])
    low = shoulder + 5 + 5 * p[3]
    _box(pen, -half, low, half, low + 5 + 5 * p[4], c[1])


def _rocket(pen: Pen, c: tuple[Colour, Colour, Colour], p: Sequence[float]) -> None:
    half, nose = 5 + 3 * p[0], -12 - 3 * p[1]
    _polygon(pen, [(-0.6 * half, 12), (0, 20 + 4 * p[2]), (0.6 * half, 12)], (248, 170, 50))
    for side in (-1, 1):
        fin = side * (half + 4 + 4 * p[3])
        _polygon(pen, [(side * half, 2), (fin, 10), (fin, 16), (side * half, 12)], c[1])
    _box(pen, -half, nose, half, 13, c[0])
    _polygon(pen, [(-half, nose), (0, -22 - 3 * p[4]), (half, nose)], c[1])
    pen.ellipse(0, -4, 0.55 * half, 0.55 * half, c[2])


def _kite(pen: Pen, c: tuple[Colour, Colour, Colour], p: Sequence[float]) -> None:
    half, bar = 10 + 6 * p[0], -8 + 6 * p[1]
    pen.stroke([(0, 10), (4, 14), (-2, 18), (2, 23)], 1.0, _DARK)
    for x, y in ((4, 14), (-2, 18)):
        _polygon(pen, [(x - 3, y - 2), (x + 3, y + 2), (x + 3, y - 2), (x - 3, y + 2)], c[2])
    _polygon(pen, [(0, -22), (half, bar), (0, 11), (-half, bar)], c[0])
    _polygon(pen, [(0, -22), (half, bar), (0, bar)], c[1])
    _polygon(pen, [(0, 11), (-half, bar), (0, bar)], c[1] if p[2] < 0.5 else c[2])


KINDS: Final[dict[str, _Draw]] = {
    "house": _house,
    "cup": _cup,
    "tree": _tree,
    "boat": _boat,
    "car": _car,
    "fish": _fish,
    "flower": _flower,
    "lamp": _lamp,
    "rings": _rings,
    "mushroom": _mushroom,
    "umbrella": _umbrella,
    "bottle": _bottle,
    "rocket": _rocket,
    "kite": _kite,
}
"""Kind -> function that draws the object."""

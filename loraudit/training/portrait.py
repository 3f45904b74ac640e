"""Draw one 64x64 picture of a synthetic person.

Everything is a polygon in the head's own frame (pixels of the final picture, origin at the middle of the head, y down), moved
by one similarity transform and filled on a canvas four times as large; the box filter of the final reduction is the only
anti-aliasing. Light, warmth and noise are applied to the reduced pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageDraw

from loraudit.training.people import Identity, Nuisance, identity, nuisance

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["SIZE", "draw", "picture"]

SIZE: Final = 64
"""Side of a picture, pixels."""
_OVERSAMPLE: Final = 4

Colour = tuple[int, int, int]

_SKIN: Final = np.array(
    [(255, 224, 196), (241, 194, 155), (221, 170, 120), (190, 135, 88), (141, 93, 58), (86, 55, 40)], float
)
_HAIR: Final[tuple[Colour, ...]] = (
    (30, 26, 28), (98, 62, 36), (232, 200, 112), (168, 44, 28), (142, 142, 146), (238, 236, 230), (226, 122, 34), (52, 86, 178),
)  # fmt: skip
_IRIS: Final[tuple[Colour, ...]] = (
    (66, 132, 220),
    (62, 150, 84),
    (204, 142, 40),
    (104, 62, 30),
    (26, 24, 26),
)
_CLOTH: Final[tuple[Colour, ...]] = (
    (196, 58, 58), (58, 104, 190), (64, 148, 88), (226, 190, 70), (130, 82, 160), (236, 236, 232), (54, 54, 60), (228, 134, 58),
)  # fmt: skip
_BACKGROUND: Final[tuple[Colour, ...]] = (
    (176, 200, 220), (206, 186, 168), (176, 208, 176), (222, 206, 160), (190, 176, 206), (222, 222, 222), (128, 136, 150), (220, 176, 176),
)  # fmt: skip
_CIRCLE: Final = np.linspace(0, 2 * np.pi, 28, endpoint=False)


def _mix(a: Sequence[float], b: Sequence[float], t: float) -> Colour:
    """Colour `t` of the way from `a` to `b`."""
    red, green, blue = (round(x + (y - x) * t) for x, y in zip(a, b, strict=True))
    return red, green, blue


@dataclass(frozen=True)
class _Pen:
    """Fills polygons given in the head's frame."""

    canvas: ImageDraw.ImageDraw
    cos: float
    sin: float
    origin: tuple[float, float]

    def fill(self, points: NDArray[np.float64], colour: Colour) -> None:
        x = self.cos * points[:, 0] - self.sin * points[:, 1] + self.origin[0]
        y = self.sin * points[:, 0] + self.cos * points[:, 1] + self.origin[1]
        self.canvas.polygon((np.stack([x, y], 1) * _OVERSAMPLE).ravel().tolist(), fill=colour)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour, slant: float = 0.0) -> None:
        self.fill(_ellipse(x, y, rx, ry, slant), colour)

    def stroke(self, points: Sequence[tuple[float, float]], width: float, colour: Colour) -> None:
        """A line of constant width with round joints, as polygons, so that it turns and scales with the head."""
        for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
            length = max(float(np.hypot(x1 - x0, y1 - y0)), 1e-6)
            nx, ny = -(y1 - y0) / length * width / 2, (x1 - x0) / length * width / 2
            self.fill(
                np.array([(x0 + nx, y0 + ny), (x1 + nx, y1 + ny), (x1 - nx, y1 - ny), (x0 - nx, y0 - ny)]),
                colour,
            )
        for x, y in points:
            self.ellipse(x, y, width / 2, width / 2, colour)


def _ellipse(x: float, y: float, rx: float, ry: float, slant: float = 0.0) -> NDArray[np.float64]:
    px, py = rx * np.cos(_CIRCLE), ry * np.sin(_CIRCLE)
    cos, sin = np.cos(slant), np.sin(slant)
    return np.stack([x + cos * px - sin * py, y + sin * px + cos * py], 1)


@dataclass(frozen=True)
class _Head:
    """Where things are on this person's head, pixels."""

    half_width: float
    top: float
    chin: float
    jaw: float
    """Exponent of the lower outline: 1.5 pointed .. 6 square."""

    def width_at(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        up = np.clip(y / self.top, 0, 1)
        down = np.clip(y / self.chin, 0, 1)
        return self.half_width * np.where(y < 0, np.sqrt(1 - up**2.4), (1 - down**self.jaw) ** 0.62)

    def outline(self, grow: float = 0.0, low: float | None = None) -> NDArray[np.float64]:
        """Closed outline, down to height `low`, widened by `grow` pixels."""
        y = np.linspace(self.top, self.chin if low is None else low, 40)
        x = self.width_at(y) + grow
        y = y + grow * np.sign(y) * (np.abs(y) / max(abs(self.top), self.chin)) ** 4
        return np.concatenate([np.stack([x, y], 1), np.stack([-x, y], 1)[::-1]])


def draw(who: Identity, how: Nuisance) -> NDArray[np.uint8]:
    """One picture, uint8 `[64, 64, 3]`, RGB."""
    v = who.values
    tone = v["skin"] * (len(_SKIN) - 1)
    skin = _mix(_SKIN[int(tone)], _SKIN[min(int(tone) + 1, len(_SKIN) - 1)], tone % 1)
    shade = _mix(skin, (70, 30, 20), 0.3)
    hair = _HAIR[int(v["hair"])]
    head = _Head(12.5 + 6.5 * v["head_width"], -(17.0 + 2.5 * v["face_length"]), 15.0 + 9.0 * v["face_length"],
                 1.45 + 5.0 * v["jaw"] ** 1.6)  # fmt: skip

    image = Image.new("RGB", (SIZE * _OVERSAMPLE, SIZE * _OVERSAMPLE))
    canvas = ImageDraw.Draw(image)
    _background(canvas, how)
    pen = _Pen(
        canvas,
        how.scale * np.cos(how.roll),
        how.scale * np.sin(how.roll),
        (32 + how.shift_x, 31 + how.shift_y),
    )
    _shoulders(pen, how, skin, shade, head)
    _hair_behind(pen, int(v["style"]), head, hair)
    ear = 1.6 + 3.6 * v["ears"]
    for side in (-1, 1):
        pen.ellipse(side * (head.half_width + 0.25 * ear), 2.0, 0.75 * ear, 1.25 * ear, skin)
        pen.ellipse(side * (head.half_width + 0.35 * ear), 2.0, 0.35 * ear, 0.75 * ear, shade)
    pen.fill(head.outline(), skin)
    _cheeks(pen, v, how, head, skin)
    _beard(pen, v, how, head, _mix(hair, (20, 16, 14), 0.15), skin)
    _nose(pen, v, how, shade)
    _mouth(pen, v, how, skin)
    _eyes(pen, v, how, hair, skin)
    _hair_front(pen, v, head, hair)
    _glasses(pen, v, how)
    return _develop(image, how)


def _background(canvas: ImageDraw.ImageDraw, how: Nuisance) -> None:
    base = _BACKGROUND[how.background[0]]
    side = SIZE * _OVERSAMPLE
    top = _mix(
        base, (255, 255, 255) if how.background[1] > 0 else (60, 60, 70), 0.45 * abs(how.background[1])
    )
    for row in range(0, side, 8):
        canvas.rectangle((0, row, side, row + 8), fill=_mix(top, base, row / side))


def _shoulders(pen: _Pen, how: Nuisance, skin: Colour, shade: Colour, head: _Head) -> None:
    cloth = _CLOTH[how.clothes[0]]
    y = head.chin + 3.5
    neck = 0.52 * head.half_width
    body = [(-32, y + 30), (-27, y + 6), (-neck - 3, y), (neck + 3, y), (27, y + 6), (32, y + 30)]
    pen.fill(np.array([(-neck, 4.0), (neck, 4.0), (neck + 1, y + 2), (-neck - 1, y + 2)]), shade)
    pen.fill(np.array(body), cloth)
    match how.clothes[1]:
        case 0:
            pen.ellipse(0, y, neck + 2, 3, skin)
        case 1:
            pen.fill(np.array([(-neck - 2, y - 0.5), (neck + 2, y - 0.5), (0, y + 9)]), skin)
        case _:
            pen.fill(np.array([(-neck - 2, y - 3), (neck + 2, y - 3), (neck + 3, y + 3), (-neck - 3, y + 3)]),
                     _mix(cloth, (0, 0, 0), 0.25))  # fmt: skip


def _hair_behind(pen: _Pen, style: int, head: _Head, hair: Colour) -> None:
    dark = _mix(hair, (0, 0, 0), 0.25)
    w, top = head.half_width, head.top
    match style:
        case 5:  # bob: ends at the mouth
            pen.ellipse(0, top + 12, w + 5.5, 14, dark)
            pen.fill(
                np.array([(-w - 5.5, top + 12), (w + 5.5, top + 12), (w + 4.5, 10), (-w - 4.5, 10)]), dark
            )
        case 6:  # long: falls over the shoulders
            pen.ellipse(0, top + 12, w + 5, 14, dark)
            pen.fill(np.array([(-w - 5, top + 12), (w + 5, top + 12), (w + 7.5, 34), (-w - 7.5, 34)]), dark)
        case 4:  # curly: a cloud
            for angle in np.linspace(np.pi * 0.98, np.pi * 2.02, 13):
                pen.ellipse((w + 2.5) * np.cos(angle), -3 + (-top - 0.5) * np.sin(angle), 5.2, 5.2, dark)
        case 7:  # bun
            pen.ellipse(0, top - 3.5, 6.5, 5.5, hair)


def _hair_front(pen: _Pen, v: Mapping[str, float], head: _Head, hair: Colour) -> None:
    style = int(v["style"])
    w, top = head.half_width, head.top
    line = top + 10.5 - 7.0 * v["hairline"]
    if style == 0:
        return
    cap = head.outline(grow=1.1, low=line)
    x_line = float(head.width_at(np.array([line]))[0]) + 1.1
    match style:
        case 1:  # short: straight hairline, sideburns
            pen.fill(cap, hair)
            for side in (-1, 1):
                pen.fill(np.array([(side * x_line, line - 1), (side * (x_line - 2.6), line - 1),
                                   (side * (w - 0.6), 1.0), (side * (w + 0.9), 1.0)]), hair)  # fmt: skip
        case 2:  # spiky
            pen.fill(cap, hair)
            for k, x in enumerate(np.linspace(-w + 1, w - 1, 7)):
                y = top * np.sqrt(max(1 - (x / (w + 1)) ** 2, 0.05))
                pen.fill(np.array([(x - 3.4, y + 3), (x + 3.4, y + 3), (x * 1.18, y - 5.0 - (k % 2))]), hair)
        case 3:  # parted on the side: a sweep across the forehead
            pen.fill(head.outline(grow=1.6, low=line), hair)
            pen.fill(np.array([(-x_line - 0.5, line - 1), (-0.35 * w, line - 1), (x_line + 0.5, line - 1), (w + 1.2, 3.0),
                               (w - 2.0, line + 3.5), (-0.2 * w, line + 1.5), (-x_line, line + 5.5)]), hair)  # fmt: skip
        case 4:  # curly
            pen.fill(head.outline(grow=0.8, low=line - 1), hair)
            for x in np.linspace(-x_line + 1, x_line - 1, 6):
                pen.ellipse(x, line - 1.5, 3.6, 3.4, hair)
        case 5:  # bob with a straight fringe
            pen.fill(head.outline(grow=2.6, low=line + 1.5), hair)
            for side in (-1, 1):
                pen.fill(np.array([(side * (w + 3.2), line - 2), (side * (w - 1.6), line - 2), (side * (w - 1.4), 9.0),
                                   (side * (w + 4.5), 10.0)]), hair)  # fmt: skip
        case 6:  # long, parted in the middle
            pen.fill(head.outline(grow=2.0, low=line - 2.5), hair)
            for side in (-1, 1):
                pen.fill(np.array([(0, line - 4), (side * (x_line + 1.4), line - 4), (side * (w + 4.6), 26.0),
                                   (side * (w + 0.2), 24.0), (side * (w - 1.8), line + 5)]), hair)  # fmt: skip
        case _:  # bun: combed back
            pen.fill(head.outline(grow=0.7, low=line - 1), hair)
            for x in (-0.5, 0.0, 0.5):
                pen.stroke([(x * w, line - 1.2), (x * 0.4 * w, top + 0.5)], 0.7, _mix(hair, (0, 0, 0), 0.35))


def _cheeks(pen: _Pen, v: Mapping[str, float], how: Nuisance, head: _Head, skin: Colour) -> None:
    y = 5.5
    match int(v["freckles"]):
        case 1:
            dot = _mix(skin, (110, 50, 20), 0.62)
            for side in (-1, 1):
                for dx, dy in ((0.36, 0.0), (0.52, 1.6), (0.62, -0.6), (0.44, 3.0), (0.72, 1.4), (0.28, 2.0)):
                    pen.ellipse(side * dx * head.half_width + how.yaw, y + dy, 0.62, 0.62, dot)
        case 2:
            blush = _mix(skin, (226, 70, 70), 0.4)
            for side in (-1, 1):
                pen.ellipse(side * 0.56 * head.half_width + how.yaw, y + 1.2, 3.4, 2.4, blush)
    mole = int(v["mole"])
    if mole:
        x, my = {
            1: (-0.52 * head.half_width, 8.2),
            2: (0.52 * head.half_width, 8.2),
            3: (2.5, head.chin - 4.0),
        }[mole]
        pen.ellipse(x + how.yaw, my, 1.15, 1.15, (52, 26, 20))


def _beard(
    pen: _Pen, v: Mapping[str, float], how: Nuisance, head: _Head, hair: Colour, skin: Colour
) -> None:  # fmt: skip
    kind, mouth = int(v["beard"]), _mouth_y(v)
    if kind == 2 or kind == 4:
        half = 3.4 + 2.6 * v["mouth_width"]
        pen.fill(np.array([(-half - 1.2, mouth + 0.6), (-half * 0.5, mouth - 3.0), (half * 0.5, mouth - 3.0),
                           (half + 1.2, mouth + 0.6), (0, mouth - 0.6)]) + (how.yaw, 0), hair)  # fmt: skip
    if kind == 3:
        pen.ellipse(0.6 * how.yaw, head.chin - 1.6, 4.2, max(head.chin - mouth - 3.0, 2.6), hair)
    if kind in (1, 4):
        y = np.linspace(4.0, head.chin, 24)
        x = head.width_at(y) + (0.9 if kind == 4 else 0.0)
        outer = np.concatenate([np.stack([x, y + (0.9 if kind == 4 else 0)], 1), np.stack([-x, y], 1)[::-1]])
        inner_y = np.linspace(4.0, head.chin - (5.0 if kind == 4 else 4.0), 16)
        inner_x = np.maximum(head.width_at(inner_y) - 3.2, 0) * np.linspace(1, 0.9, 16)
        fill = hair if kind == 4 else _mix(skin, hair, 0.36)
        pen.fill(outer, fill)
        pen.fill(
            np.concatenate([np.stack([inner_x, inner_y], 1), np.stack([-inner_x, inner_y], 1)[::-1]]), skin
        )
        if kind == 4:
            half = 3.4 + 2.6 * v["mouth_width"]
            pen.fill(np.array([(-half - 1.2, mouth + 0.8), (-half * 0.5, mouth - 3.0), (half * 0.5, mouth - 3.0),
                               (half + 1.2, mouth + 0.8), (0, mouth - 0.6)]) + (how.yaw, 0), hair)  # fmt: skip


def _nose(pen: _Pen, v: Mapping[str, float], how: Nuisance, shade: Colour) -> None:
    low, half, x = 1.5 + 6.0 * v["nose_length"], 1.2 + 2.9 * v["nose_width"], 1.35 * how.yaw
    pen.fill(np.array([(0.75 * how.yaw - 0.5, -1.5), (0.75 * how.yaw + 0.5, -1.5), (x + half, low), (x, low + 1.1),
                       (x - half, low)]), shade)  # fmt: skip
    dark = _mix(shade, (30, 10, 8), 0.55)
    for side in (-1, 1):
        pen.ellipse(x + side * 0.62 * half, low + 0.25, 0.5 + 0.16 * half, 0.6, dark)


def _mouth_y(v: Mapping[str, float]) -> float:
    """Height of the mouth: below the nose, above the chin."""
    chin, nose = 15.0 + 9.0 * v["face_length"], 1.5 + 6.0 * v["nose_length"]
    return nose + 2.6 + (chin - nose - 6.4) * (0.1 + 0.75 * v["mouth_height"])


def _mouth(pen: _Pen, v: Mapping[str, float], how: Nuisance, skin: Colour) -> None:
    y, half, full = _mouth_y(v), 2.6 + 5.6 * v["mouth_width"], 0.5 + 1.9 * v["lips"]
    x = np.linspace(-1, 1, 13)
    bend = -1.7 * how.smile * (1 - x**2)
    bend = -(bend - bend.mean())
    gap = 1.7 * how.mouth_open * (1 - x**2)
    upper = np.stack([half * x + 1.15 * how.yaw, y + bend - gap / 2 - full * (1 - np.abs(x) ** 2.2)], 1)
    lower = np.stack([half * x + 1.15 * how.yaw, y + bend + gap / 2 + full * (1 - np.abs(x) ** 2.2)], 1)
    pen.fill(np.concatenate([upper, lower[::-1]]), _mix(skin, (178, 34, 52), 0.62))
    line = np.stack([half * x + 1.15 * how.yaw, y + bend], 1)
    inside = np.concatenate(
        [line - np.stack([0 * x, gap / 2 + 0.28], 1), (line + np.stack([0 * x, gap / 2 + 0.28], 1))[::-1]]
    )
    pen.fill(inside, (64, 14, 22))


def _eyes(pen: _Pen, v: Mapping[str, float], how: Nuisance, hair: Colour, skin: Colour) -> None:
    rx, ry = 2.1 + 2.1 * v["eye_size"], 1.2 + 1.9 * v["eye_size"]
    apart, y = 4.3 + 4.6 * v["eye_spacing"], -2.6
    slant = 0.62 * (v["eye_slant"] - 0.5)
    iris = _IRIS[int(v["iris"])]
    brow = _mix(hair, (24, 18, 16), 0.45)
    weight = 0.7 + 2.3 * v["brow_weight"]
    brow_y = y - ry - 1.5 - 3.0 * v["brow_height"] - how.brow_raise - weight / 2
    tilt = 2.6 * (v["brow_tilt"] - 0.4)
    for side in (-1, 1):
        x = side * apart + how.yaw
        pen.ellipse(x, y, rx + 0.5, ry + 0.5, _mix(skin, (40, 20, 16), 0.6), -side * slant)
        pen.ellipse(x, y, rx, ry, (250, 250, 248), -side * slant)
        px, py = x + 0.45 * rx * how.gaze[0], y + 0.3 * ry * how.gaze[1]
        size = min(ry, 0.72 * rx)
        pen.ellipse(px, py, size, size, iris)
        pen.ellipse(px, py, 0.5 * size, 0.5 * size, (12, 10, 12))
        inner, outer = x - side * 0.95 * rx, x + side * 1.15 * rx
        pen.stroke([(inner, brow_y + tilt / 2), (x, brow_y - 0.5), (outer, brow_y - tilt / 2)], weight, brow)


def _glasses(pen: _Pen, v: Mapping[str, float], how: Nuisance) -> None:
    kind = int(v["glasses"])
    if not kind:
        return
    apart, y, r = 4.3 + 4.6 * v["eye_spacing"], -2.4, 4.9
    frame = (34, 30, 34) if kind != 1 else (150, 96, 30)
    for side in (-1, 1):
        x = side * max(apart, r + 0.4) + how.yaw
        if kind == 3:
            pen.ellipse(x, y, r + 0.4, r, (24, 22, 26))
        elif kind == 1:
            ring = _ellipse(x, y, r, r)
            pen.stroke([(px, py) for px, py in [*ring, ring[0]]], 0.95, frame)
        else:
            box = [(x - r, y - 3.6), (x + r, y - 3.6), (x + r, y + 3.8), (x - r, y + 3.8), (x - r, y - 3.6)]
            pen.stroke(box, 1.1, frame)
    half = max(apart, r + 0.4) - r
    pen.stroke([(how.yaw - half, y - 0.5), (how.yaw + half, y - 0.5)], 1.0, frame)


def _develop(image: Image.Image, how: Nuisance) -> NDArray[np.uint8]:
    pixels = np.asarray(image.reduce(_OVERSAMPLE), np.float32)
    grid = np.linspace(-1, 1, SIZE, dtype=np.float32)
    angle, strength = how.light
    slope = np.cos(angle) * grid[None, :] + np.sin(angle) * grid[:, None]
    pixels = pixels * (1 + 0.2 * strength * slope)[:, :, None]
    pixels = pixels * np.array([1 + 0.05 * how.warmth, 1.0, 1 - 0.05 * how.warmth], np.float32)
    grain = np.random.default_rng([4, round(how.noise * 1e6)]).standard_normal(pixels.shape, np.float32)
    return np.clip(pixels + how.noise * grain + 0.5, 0, 255).astype(np.uint8)


def picture(identity_seed: int, picture_seed: int) -> NDArray[np.uint8]:
    """Picture number `picture_seed` of the person `identity_seed`, uint8 `[64, 64, 3]`, RGB."""
    return draw(identity(identity_seed), nuisance(identity_seed, picture_seed))

"""Draw one 64x64 picture of a synthetic person.

Everything is a polygon in the head's own frame: pixels of the final picture, origin at the middle of the
head, y down. One similarity transform moves the polygons onto a canvas four times as large. The box filter of
the final reduction is the only anti-aliasing. Light, warmth and noise are applied to the reduced pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageDraw

from loraudit.people.hair import beard, hair_behind, hair_front, mouth_height
from loraudit.people.identity import Identity, Nuisance, identity, nuisance
from loraudit.people.pen import OVERSAMPLE, Colour, Head, Pen, ellipse, mix

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["SIZE", "background", "develop", "draw", "picture"]

SIZE: Final = 64
"""Side of a picture, pixels."""

_SKIN: Final = np.array(
    [(255, 224, 196), (241, 194, 155), (221, 170, 120), (190, 135, 88), (141, 93, 58), (86, 55, 40)], float
)
_HAIR: Final[tuple[Colour, ...]] = (
    (30, 26, 28),
    (98, 62, 36),
    (232, 200, 112),
    (168, 44, 28),
    (142, 142, 146),
    (238, 236, 230),
    (226, 122, 34),
    (52, 86, 178),
)
_IRIS: Final[tuple[Colour, ...]] = (
    (66, 132, 220),
    (62, 150, 84),
    (204, 142, 40),
    (104, 62, 30),
    (26, 24, 26),
)
_CLOTH: Final[tuple[Colour, ...]] = (
    (196, 58, 58),
    (58, 104, 190),
    (64, 148, 88),
    (226, 190, 70),
    (130, 82, 160),
    (236, 236, 232),
    (54, 54, 60),
    (228, 134, 58),
)
_BACKGROUND: Final[tuple[Colour, ...]] = (
    (176, 200, 220),
    (206, 186, 168),
    (176, 208, 176),
    (222, 206, 160),
    (190, 176, 206),
    (222, 222, 222),
    (128, 136, 150),
    (220, 176, 176),
)


def draw(who: Identity, how: Nuisance) -> NDArray[np.uint8]:
    """Draw one picture of a person, uint8 `[64, 64, 3]`, RGB."""
    v = who.values
    tone = v["skin"] * (len(_SKIN) - 1)
    skin = mix(_SKIN[int(tone)], _SKIN[min(int(tone) + 1, len(_SKIN) - 1)], tone % 1)
    shade = mix(skin, (70, 30, 20), 0.3)
    hair = _HAIR[int(v["hair"])]
    head = Head(
        12.5 + 6.5 * v["head_width"],
        -(17.0 + 2.5 * v["face_length"]),
        15.0 + 9.0 * v["face_length"],
        1.45 + 5.0 * v["jaw"] ** 1.6,
    )

    image = Image.new("RGB", (SIZE * OVERSAMPLE, SIZE * OVERSAMPLE))
    canvas = ImageDraw.Draw(image)
    background(canvas, how)
    pen = Pen(
        canvas,
        how.scale * np.cos(how.roll),
        how.scale * np.sin(how.roll),
        (32 + how.shift_x, 31 + how.shift_y),
    )
    _shoulders(pen, how, skin, shade, head)
    hair_behind(pen, int(v["style"]), head, hair)
    ear = 1.6 + 3.6 * v["ears"]
    for side in (-1, 1):
        pen.ellipse(side * (head.half_width + 0.25 * ear), 2.0, 0.75 * ear, 1.25 * ear, skin)
        pen.ellipse(side * (head.half_width + 0.35 * ear), 2.0, 0.35 * ear, 0.75 * ear, shade)
    pen.fill(head.outline(), skin)
    _cheeks(pen, v, how, head, skin)
    beard(pen, v, how, head, mix(hair, (20, 16, 14), 0.15), skin)
    _nose(pen, v, how, shade)
    _mouth(pen, v, how, skin)
    _eyes(pen, v, how, hair, skin)
    hair_front(pen, v, head, hair)
    _glasses(pen, v, how)
    return develop(image, how)


def background(canvas: ImageDraw.ImageDraw, how: Nuisance) -> None:
    """Fill the canvas with the picture's background, a vertical gradient."""
    base = _BACKGROUND[how.background[0]]
    side = SIZE * OVERSAMPLE
    top = mix(base, (255, 255, 255) if how.background[1] > 0 else (60, 60, 70), 0.45 * abs(how.background[1]))
    for row in range(0, side, 8):
        canvas.rectangle((0, row, side, row + 8), fill=mix(top, base, row / side))


def _shoulders(pen: Pen, how: Nuisance, skin: Colour, shade: Colour, head: Head) -> None:
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
            pen.fill(
                np.array([(-neck - 2, y - 3), (neck + 2, y - 3), (neck + 3, y + 3), (-neck - 3, y + 3)]),
                mix(cloth, (0, 0, 0), 0.25),
            )


def _cheeks(pen: Pen, v: Mapping[str, float], how: Nuisance, head: Head, skin: Colour) -> None:
    y = 5.5
    match int(v["freckles"]):
        case 1:
            dot = mix(skin, (110, 50, 20), 0.62)
            for side in (-1, 1):
                for dx, dy in ((0.36, 0.0), (0.52, 1.6), (0.62, -0.6), (0.44, 3.0), (0.72, 1.4), (0.28, 2.0)):
                    pen.ellipse(side * dx * head.half_width + how.yaw, y + dy, 0.62, 0.62, dot)
        case 2:
            blush = mix(skin, (226, 70, 70), 0.4)
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


def _nose(pen: Pen, v: Mapping[str, float], how: Nuisance, shade: Colour) -> None:
    low, half, x = 1.5 + 6.0 * v["nose_length"], 1.2 + 2.9 * v["nose_width"], 1.35 * how.yaw
    pen.fill(
        np.array(
            [
                (0.75 * how.yaw - 0.5, -1.5),
                (0.75 * how.yaw + 0.5, -1.5),
                (x + half, low),
                (x, low + 1.1),
                (x - half, low),
            ]
        ),
        shade,
    )
    dark = mix(shade, (30, 10, 8), 0.55)
    for side in (-1, 1):
        pen.ellipse(x + side * 0.62 * half, low + 0.25, 0.5 + 0.16 * half, 0.6, dark)


def _mouth(pen: Pen, v: Mapping[str, float], how: Nuisance, skin: Colour) -> None:
    y, half, full = mouth_height(v), 2.6 + 5.6 * v["mouth_width"], 0.5 + 1.9 * v["lips"]
    x = np.linspace(-1, 1, 13)
    bend = -1.7 * how.smile * (1 - x**2)
    bend = -(bend - bend.mean())
    gap = 1.7 * how.mouth_open * (1 - x**2)
    upper = np.stack([half * x + 1.15 * how.yaw, y + bend - gap / 2 - full * (1 - np.abs(x) ** 2.2)], 1)
    lower = np.stack([half * x + 1.15 * how.yaw, y + bend + gap / 2 + full * (1 - np.abs(x) ** 2.2)], 1)
    pen.fill(np.concatenate([upper, lower[::-1]]), mix(skin, (178, 34, 52), 0.62))
    line = np.stack([half * x + 1.15 * how.yaw, y + bend], 1)
    inside = np.concatenate(
        [line - np.stack([0 * x, gap / 2 + 0.28], 1), (line + np.stack([0 * x, gap / 2 + 0.28], 1))[::-1]]
    )
    pen.fill(inside, (64, 14, 22))


def _eyes(pen: Pen, v: Mapping[str, float], how: Nuisance, hair: Colour, skin: Colour) -> None:
    rx, ry = 2.1 + 2.1 * v["eye_size"], 1.2 + 1.9 * v["eye_size"]
    apart, y = 4.3 + 4.6 * v["eye_spacing"], -2.6
    slant = 0.62 * (v["eye_slant"] - 0.5)
    iris = _IRIS[int(v["iris"])]
    brow = mix(hair, (24, 18, 16), 0.45)
    weight = 0.7 + 2.3 * v["brow_weight"]
    brow_y = y - ry - 1.5 - 3.0 * v["brow_height"] - how.brow_raise - weight / 2
    tilt = 2.6 * (v["brow_tilt"] - 0.4)
    for side in (-1, 1):
        x = side * apart + how.yaw
        pen.ellipse(x, y, rx + 0.5, ry + 0.5, mix(skin, (40, 20, 16), 0.6), -side * slant)
        pen.ellipse(x, y, rx, ry, (250, 250, 248), -side * slant)
        px, py = x + 0.45 * rx * how.gaze[0], y + 0.3 * ry * how.gaze[1]
        size = min(ry, 0.72 * rx)
        pen.ellipse(px, py, size, size, iris)
        pen.ellipse(px, py, 0.5 * size, 0.5 * size, (12, 10, 12))
        inner, outer = x - side * 0.95 * rx, x + side * 1.15 * rx
        pen.stroke([(inner, brow_y + tilt / 2), (x, brow_y - 0.5), (outer, brow_y - tilt / 2)], weight, brow)


def _glasses(pen: Pen, v: Mapping[str, float], how: Nuisance) -> None:
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
            ring = ellipse(x, y, r, r)
            pen.stroke([(px, py) for px, py in [*ring, ring[0]]], 0.95, frame)
        else:
            box = [(x - r, y - 3.6), (x + r, y - 3.6), (x + r, y + 3.8), (x - r, y + 3.8), (x - r, y - 3.6)]
            pen.stroke(box, 1.1, frame)
    half = max(apart, r + 0.4) - r
    pen.stroke([(how.yaw - half, y - 0.5), (how.yaw + half, y - 0.5)], 1.0, frame)


def develop(image: Image.Image, how: Nuisance) -> NDArray[np.uint8]:
    """Reduce the oversampled canvas, under the picture's light and with its noise, to uint8 `[64, 64, 3]`."""
    pixels = np.asarray(image.reduce(OVERSAMPLE), np.float32)
    grid = np.linspace(-1, 1, SIZE, dtype=np.float32)
    angle, strength = how.light
    slope = np.cos(angle) * grid[None, :] + np.sin(angle) * grid[:, None]
    pixels = pixels * (1 + 0.2 * strength * slope)[:, :, None]
    pixels = pixels * np.array([1 + 0.05 * how.warmth, 1.0, 1 - 0.05 * how.warmth], np.float32)
    grain = np.random.default_rng([4, round(how.noise * 1e6)]).standard_normal(pixels.shape, np.float32)
    developed: NDArray[np.uint8] = np.clip(pixels + how.noise * grain + 0.5, 0, 255).astype(np.uint8)
    return developed


def picture(identity_seed: int, picture_seed: int) -> NDArray[np.uint8]:
    """Draw picture number `picture_seed` of the person `identity_seed`, uint8 `[64, 64, 3]`, RGB."""
    return draw(identity(identity_seed), nuisance(identity_seed, picture_seed))

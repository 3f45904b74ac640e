"""Hair and beards of a portrait."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from loraudit.people.pen import Colour, Head, Pen, mix

if TYPE_CHECKING:
    from collections.abc import Mapping

    from loraudit.people.identity import Nuisance

__all__ = ["beard", "hair_behind", "hair_front", "mouth_height"]


def hair_behind(pen: Pen, style: int, head: Head, hair: Colour) -> None:
    """Draw the hair behind the head."""
    dark = mix(hair, (0, 0, 0), 0.25)
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


def hair_front(pen: Pen, v: Mapping[str, float], head: Head, hair: Colour) -> None:
    """Draw the hair on the head."""
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
                pen.fill(
                    np.array(
                        [
                            (side * x_line, line - 1),
                            (side * (x_line - 2.6), line - 1),
                            (side * (w - 0.6), 1.0),
                            (side * (w + 0.9), 1.0),
                        ]
                    ),
                    hair,
                )
        case 2:  # spiky
            pen.fill(cap, hair)
            for k, x in enumerate(np.linspace(-w + 1, w - 1, 7)):
                y = top * np.sqrt(max(1 - (x / (w + 1)) ** 2, 0.05))
                pen.fill(np.array([(x - 3.4, y + 3), (x + 3.4, y + 3), (x * 1.18, y - 5.0 - (k % 2))]), hair)
        case 3:  # parted on the side: a sweep across the forehead
            pen.fill(head.outline(grow=1.6, low=line), hair)
            pen.fill(
                np.array(
                    [
                        (-x_line - 0.5, line - 1),
                        (-0.35 * w, line - 1),
                        (x_line + 0.5, line - 1),
                        (w + 1.2, 3.0),
                        (w - 2.0, line + 3.5),
                        (-0.2 * w, line + 1.5),
                        (-x_line, line + 5.5),
                    ]
                ),
                hair,
            )
        case 4:  # curly
            pen.fill(head.outline(grow=0.8, low=line - 1), hair)
            for x in np.linspace(-x_line + 1, x_line - 1, 6):
                pen.ellipse(x, line - 1.5, 3.6, 3.4, hair)
        case 5:  # bob with a straight fringe
            pen.fill(head.outline(grow=2.6, low=line + 1.5), hair)
            for side in (-1, 1):
                pen.fill(
                    np.array(
                        [
                            (side * (w + 3.2), line - 2),
                            (side * (w - 1.6), line - 2),
                            (side * (w - 1.4), 9.0),
                            (side * (w + 4.5), 10.0),
                        ]
                    ),
                    hair,
                )
        case 6:  # long, parted in the middle
            pen.fill(head.outline(grow=2.0, low=line - 2.5), hair)
            for side in (-1, 1):
                pen.fill(
                    np.array(
                        [
                            (0, line - 4),
                            (side * (x_line + 1.4), line - 4),
                            (side * (w + 4.6), 26.0),
                            (side * (w + 0.2), 24.0),
                            (side * (w - 1.8), line + 5),
                        ]
                    ),
                    hair,
                )
        case _:  # bun: combed back
            pen.fill(head.outline(grow=0.7, low=line - 1), hair)
            for x in (-0.5, 0.0, 0.5):
                pen.stroke([(x * w, line - 1.2), (x * 0.4 * w, top + 0.5)], 0.7, mix(hair, (0, 0, 0), 0.35))


def mouth_height(v: Mapping[str, float]) -> float:
    """Compute the height of the mouth in pixels: below the nose, above the chin."""
    chin, nose = 15.0 + 9.0 * v["face_length"], 1.5 + 6.0 * v["nose_length"]
    return nose + 2.6 + (chin - nose - 6.4) * (0.1 + 0.75 * v["mouth_height"])


def beard(pen: Pen, v: Mapping[str, float], how: Nuisance, head: Head, hair: Colour, skin: Colour) -> None:
    """Draw stubble, moustache, goatee or full beard."""
    kind, mouth = int(v["beard"]), mouth_height(v)
    if kind == 2:
        _moustache(pen, v, how, hair, 0.6)
    if kind == 3:
        pen.ellipse(0.6 * how.yaw, head.chin - 1.6, 4.2, max(head.chin - mouth - 3.0, 2.6), hair)
    if kind in (1, 4):
        y = np.linspace(4.0, head.chin, 24)
        x = head.width_at(y) + (0.9 if kind == 4 else 0.0)
        outer = np.concatenate([np.stack([x, y + (0.9 if kind == 4 else 0)], 1), np.stack([-x, y], 1)[::-1]])
        inner_y = np.linspace(4.0, head.chin - (5.0 if kind == 4 else 4.0), 16)
        inner_x = np.maximum(head.width_at(inner_y) - 3.2, 0) * np.linspace(1, 0.9, 16)
        fill = hair if kind == 4 else mix(skin, hair, 0.36)
        pen.fill(outer, fill)
        pen.fill(
            np.concatenate([np.stack([inner_x, inner_y], 1), np.stack([-inner_x, inner_y], 1)[::-1]]), skin
        )
        if kind == 4:
            _moustache(pen, v, how, hair, 0.8)


def _moustache(pen: Pen, v: Mapping[str, float], how: Nuisance, hair: Colour, drop: float) -> None:
    """Draw a moustache whose tips hang `drop` pixels below the mouth."""
    half, mouth = 3.4 + 2.6 * v["mouth_width"], mouth_height(v)
    x = np.array([-half - 1.2, -half * 0.5, half * 0.5, half + 1.2, 0.0]) + how.yaw
    y = mouth + np.array([drop, -3.0, -3.0, drop, -0.6])
    pen.fill(np.stack([x, y], 1), hair)

"""Zoos of varied recipes: LoRAs as different people make them, for an encoder that must read them all.

A folder of zoos, `recipe-00/`, `recipe-01/` ..., each of one recipe and of people of its own; a folder of
such folders is read as one folder. The recipes are a Latin hypercube: every level of every factor (rank,
alpha, learning rate, steps, pictures, prompt, targets, text tower, prior preservation) occurs equally
often, in random company. Recipe `i` of `n` is a function of (seed, i, n, targets) alone.
`models.recipes.varied_zoos` builds the zoos.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from loraudit.people.captions import INSTANCE_PROMPT
from loraudit.people.sources import Synthetic
from loraudit.training.finetune import TINY
from loraudit.training.zoo_plan import Plan

__all__ = [
    "ANY",
    "HELD_OUT",
    "NEIGHBOURS",
    "TARGETS",
    "USUAL",
    "held_out_plans",
    "varied_plans",
]

_ATTENTION: Final = ("to_q", "to_k", "to_v", "to_out.0")
_TRANSFORMER: Final = (*_ATTENTION, "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2")
_RESNET: Final = (
    "conv1",
    "conv2",
    "time_emb_proj",
    "conv_shortcut",
    "downsamplers.0.conv",
    "upsamplers.0.conv",
)

TARGETS: Final[Mapping[str, tuple[str, ...]]] = {
    "qv": ("to_q", "to_v"),
    "attention": _ATTENTION,
    "kohya": _TRANSFORMER,
    "locon": (*_TRANSFORMER, *_RESNET),
    "kv": ("to_k", "to_v"),
    "qkv": ("to_q", "to_k", "to_v"),
    "geglu": (*_ATTENTION, "ff.net.0.proj"),
    "feed-forward": ("ff.net.0.proj", "ff.net.2"),
    "custom": ("attn2.to_k", "attn2.to_v"),
}
"""UNet modules that trainers adapt, by name.

`qv`: the paper. `attention`: diffusers. `kohya`, `locon`: kohya and its LoCon. `kv`: keys and values alone.
`qkv`: all inputs of attention. `geglu`: cloneofsimo's trainer. `feed-forward`: no attention. `custom`: Custom
Diffusion (arXiv 2212.04488).
"""

ANY: Final = "any"
"""Name for some of kohya's modules, drawn anew for each recipe."""

USUAL: Final = ("qv", "attention", "kohya", "locon")
"""Names in `TARGETS` that are drawn unless others are asked for."""

_SPEED: Final = {
    "qv": 1.0,
    "attention": 0.8,
    "kohya": 0.6,
    "locon": 0.5,
    "kv": 1.0,
    "qkv": 0.9,
    "geglu": 0.7,
    "feed-forward": 1.0,
    "custom": 1.2,
}
"""Learning rate relative to `qv`: more modules move the model further in a step."""

_LEVELS: Final[Mapping[str, tuple[Any, ...]]] = {
    "rank": (1, 4, 8, 16, 32),
    "scale": (0.5, 1.0, 27 / 16, 2.0),
    "rate": (0.6, 0.8, 1.0, 1.4),
    "steps": (200, 300, 350, 450),
    "pictures": (1, 3, 5, 10, 20),
    "template": (INSTANCE_PROMPT, "a photo of NAME person", "NAME", "portrait of NAME"),
    "targets": USUAL,
    "text": (None, 1e-4, 1e-4, 3e-4),
    "prior": (1.0, 1.0, 0.0),
    "batch": (1, 1, 2),
}


def varied_plans(
    people: Sequence[int],
    recipes: int,
    seed: int,
    *,
    targets: Sequence[str] = USUAL,
    data: str = Synthetic.name,
    pictures: int | None = None,
) -> list[Plan]:
    """Plan `recipes` zoos that share the `people` of the source `data` evenly.

    `targets` are names in `TARGETS`, or `ANY`. `pictures` overrides every recipe's number of pictures: a
    crowd of one picture is a person.
    """
    levels = {**_LEVELS, "targets": tuple(targets)}
    rng = np.random.default_rng([seed, 40])
    columns = {name: rng.permutation(recipes) for name in levels}
    size = len(people) // recipes
    drawn = [
        {name: values[int(columns[name][i]) % len(values)] for name, values in levels.items()}
        for i in range(recipes)
    ]
    for i, level in enumerate(drawn):
        if level["targets"] == ANY:
            chosen = _some_targets(np.random.default_rng([seed, 41, i]))
            level["targets"] = " ".join(chosen)
            level["rate"] *= max(0.6, 1.2 - 0.1 * len(chosen))
    return [
        _plan(
            tuple(people[size * i : size * (i + 1)]),
            level if pictures is None else {**level, "pictures": pictures},
            seed,
            data,
        )
        for i, level in enumerate(drawn)
    ]


HELD_OUT: Final[tuple[tuple[int, str], ...]] = (
    (2, "qv"),
    (24, "qv"),
    (12, "to_k to_out.0"),
    (8, "to_q ff.net.0.proj ff.net.2"),
)
"""Pairs of rank and modules that `varied_plans` never draws."""

NEIGHBOURS: Final[tuple[tuple[int, str], ...]] = (
    (4, "qv"),
    (32, "qv"),
    (16, "attention"),
    (8, "kohya"),
)
"""Nearest pair to each of `HELD_OUT` that `varied_plans` does draw, as the control of what is new."""


def held_out_plans(
    people: Sequence[int], seed: int, sets: Sequence[tuple[int, str]] = HELD_OUT
) -> list[Plan]:
    """Plan a zoo for each of `sets`, otherwise by the paper's recipe, with the `people` shared evenly."""
    size = len(people) // len(sets)
    usual = {"scale": 27 / 16, "rate": 1.0, "steps": TINY.steps, "pictures": 5, "template": INSTANCE_PROMPT}
    return [
        _plan(
            tuple(people[size * i : size * (i + 1)]),
            {**usual, "rank": rank, "targets": targets, "text": 1e-4, "prior": 1.0, "batch": 1},
            seed,
        )
        for i, (rank, targets) in enumerate(sets)
    ]


def _some_targets(rng: np.random.Generator) -> list[str]:
    """Draw some of kohya's modules, never a set of `HELD_OUT`."""
    held_out = [set(targets.split()) for _, targets in HELD_OUT]
    while True:
        chosen = [name for name in _TRANSFORMER if rng.random() < 0.5]
        if chosen and set(chosen) not in held_out:
            return chosen


def _plan(people: tuple[int, ...], level: Mapping[str, Any], seed: int, data: str = Synthetic.name) -> Plan:
    rank, steps = level["rank"], level["steps"]
    # Adam moves every entry of `B` by the learning rate, so the update grows with scale, rank and modules.
    lr = TINY.lr * level["rate"] * (TINY.unet_alpha / 16 / level["scale"]) * math.sqrt(16 / rank)
    recipe = dataclasses.replace(
        TINY,
        unet_targets=TARGETS.get(level["targets"]) or tuple(level["targets"].split()),
        text_targets=() if level["text"] is None else TINY.text_targets,
        rank=rank,
        unet_alpha=rank * level["scale"],
        text_alpha=rank * level["scale"],
        lr=min(0.02, lr * _SPEED.get(level["targets"], 1.0)),
        text_lr=level["text"] or TINY.text_lr,
        steps=steps,
        batch=level["batch"],
        prior_weight=level["prior"],
    )
    snapshots = (steps // 2, steps * 3 // 4, steps)
    return Plan(
        people,
        recipe,
        snapshots,
        people_per_pass=len(people),
        seed=seed,
        data=data,
        pictures=level["pictures"],
        template=level["template"],
    )

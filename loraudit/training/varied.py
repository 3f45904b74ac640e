"""Varied recipes: LoRAs as different people make them, for encoders and calibrations that must know them all.

The recipes are a Latin hypercube: every level of every factor (rank, alpha, learning rate, steps, pictures,
prompt, targets, text tower, prior preservation) occurs equally often, in random company. Levels are those of
`tiny`. For another recipe, learning rates and steps are in proportion.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from loraudit.people.captions import INSTANCE_PROMPT
from loraudit.people.sources import Synthetic
from loraudit.training.finetune import TINY, Recipe
from loraudit.training.zoo_plan import Plan

__all__ = ["TARGETS", "USUAL", "Levels", "drawn_levels", "plans_of"]

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

_FASTEST: Final = 20 / 3
"""Learning rate at most, relative to the recipe's."""

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


Levels: TypeAlias = dict[str, Any]
"""Level of every factor, by its name."""


def drawn_levels(recipes: int, seed: int, targets: Sequence[str] = USUAL) -> list[Levels]:
    """Draw the levels of so many recipes; `targets` are names in `TARGETS`, or further names.

    The levels of recipe `i` are a function of (seed, i, recipes, targets) alone.
    """
    levels = {**_LEVELS, "targets": tuple(targets)}
    rng = np.random.default_rng([seed, 40])
    columns = {name: rng.permutation(recipes) for name in levels}
    return [
        {name: values[int(columns[name][i]) % len(values)] for name, values in levels.items()}
        for i in range(recipes)
    ]


def plans_of(
    people: Sequence[int],
    levels: Sequence[Levels],
    seed: int,
    *,
    data: str = Synthetic.name,
    pictures: int | None = None,
    like: Recipe = TINY,
) -> list[Plan]:
    """Plan a zoo for each of `levels`; the zoos share the `people` of the source `data` evenly.

    A level of `targets` that is no name in `TARGETS` is a list of modules, with spaces between. `pictures`
    overrides every number of pictures: a crowd of one picture is a person. `like` is the recipe that suits
    the base.
    """
    cuts = [len(people) * i // len(levels) for i in range(len(levels) + 1)]
    return [
        _plan(
            tuple(people[start:end]),
            level if pictures is None else {**level, "pictures": pictures},
            seed,
            data,
            like,
        )
        for start, end, level in zip(cuts, cuts[1:], levels, strict=False)
    ]


def _plan(people: tuple[int, ...], level: Mapping[str, Any], seed: int, data: str, like: Recipe) -> Plan:
    rank, steps = level["rank"], round(level["steps"] * like.steps / TINY.steps)
    # Adam moves every entry of `B` by the learning rate, so the update grows with scale, rank and modules.
    lr = like.lr * level["rate"] * (like.unet_alpha / 16 / level["scale"]) * math.sqrt(16 / rank)
    recipe = dataclasses.replace(
        like,
        unet_targets=TARGETS.get(level["targets"]) or tuple(level["targets"].split()),
        text_targets=() if level["text"] is None else like.text_targets,
        rank=rank,
        unet_alpha=rank * level["scale"],
        text_alpha=rank * level["scale"],
        lr=min(_FASTEST * like.lr, lr * _SPEED.get(level["targets"], 1.0)),
        text_lr=level["text"] or like.text_lr,
        steps=steps,
        batch=level["batch"],
        prior_weight=level["prior"],
    )
    snapshots = (steps // 2, steps * 3 // 4, steps)
    return Plan(
        people,
        recipe,
        tuple(sorted({step for step in snapshots if step})),
        people_per_pass=max(1, len(people)),
        seed=seed,
        data=data,
        pictures=level["pictures"],
        template=level["template"],
    )

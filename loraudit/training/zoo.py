"""A zoo: many LoRAs of many people, saved at several steps along their training.

A *pass* fine-tunes up to `people_per_pass` people together and becomes one safetensors file, `pass-0000.safetensors`, whose tensors
are `<step>/<site>.up [M, out, r]` (scale folded in) and `<step>/<site>.down [M, r, in]`. `zoo.json` says who is where and is
written before the first pass; a pass whose file exists is not trained again, so an interrupted build goes on where it stopped
and ends with the same files.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from loraudit.errors import LorauditError
from loraudit.training.captions import instance_prompt, trigger
from loraudit.training.finetune import Recipe, Subject, finetune
from loraudit.training.portrait import picture
from loraudit.training.tiny_vae import to_tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

    from loraudit.base import Base
    from loraudit.lowrank import Terms

__all__ = ["Member", "Plan", "Zoo", "build_zoo", "open_zoo", "person"]

PICTURES = 5
"""Pictures a LoRA is made of, as in the paper."""


@dataclass(frozen=True)
class Plan:
    """What a zoo holds."""

    people: tuple[int, ...]
    """Identity seeds, one LoRA each."""
    recipe: Recipe
    snapshots: tuple[int, ...]
    """Steps at which every LoRA is saved, ascending, the last at most `recipe.steps`."""
    people_per_pass: int = 32
    seed: int = 0


@dataclass(frozen=True)
class Member:
    """One LoRA of a zoo."""

    identity: int
    """Identity seed."""
    name: str
    """The trigger it was trained with."""
    index: int
    """Its place in the zoo, and with `index % people_per_pass` in its pass."""

    @property
    def prompt(self) -> str:
        """The secret instance prompt."""
        return instance_prompt(self.name)


@dataclass(frozen=True)
class Zoo:
    """An opened zoo."""

    folder: Path
    plan: Plan
    members: tuple[Member, ...]

    def terms(self, first: int, step: int) -> Terms:
        """Terms of the whole pass that starts with member `first`, at a saved step."""
        tensors = load_file(self.folder / f"pass-{first // self.plan.people_per_pass:04d}.safetensors")
        prefix = f"{step:06d}/"
        sites = sorted(k.removeprefix(prefix).removesuffix(".up") for k in tensors if k.startswith(prefix) and k.endswith(".up"))
        return {site: (tensors[f"{prefix}{site}.up"].float(), tensors[f"{prefix}{site}.down"].float()) for site in sites}


def person(base: Base, member: Member, seed: int) -> Subject:
    """What member's LoRA is trained on: pictures 0..4 of the identity."""
    return Subject(base.encode_images(portraits(member.identity)), member.prompt, seed)


def portraits(identity: int, first: int = 0, count: int = PICTURES) -> Tensor:
    """Pictures `first ..` of an identity, float `[count, 3, 64, 64]` in 0..1."""
    return to_tensor(np.stack([picture(identity, first + i) for i in range(count)])) / 2 + 0.5


def members_of(plan: Plan) -> tuple[Member, ...]:
    """The members of a plan, each with a trigger drawn from the plan's seed and the identity."""
    return tuple(
        Member(who, trigger(np.random.default_rng([plan.seed, 9, who])), index) for index, who in enumerate(plan.people)
    )


def build_zoo(
    base: Base, folder: Path, plan: Plan, prior: Tensor, on_step: Callable[[int, int], None] = lambda _done, _all: None
) -> Zoo:
    """Build what is missing of the zoo in `folder`; `on_step(done, total)` counts fine-tuning steps of all passes.

    Raises `LorauditError` if the folder holds a zoo of another plan.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = json.dumps(_plain(plan), indent=2) + "\n"
    path = folder / "zoo.json"
    if path.exists() and path.read_text() != record:
        raise LorauditError(f"{folder.name} holds a zoo of another plan", "name another folder or delete it")
    path.write_text(record)
    members = members_of(plan)
    starts = range(0, len(members), plan.people_per_pass)
    total = len(starts) * plan.recipe.steps
    for number, start in enumerate(starts):
        target = folder / f"pass-{number:04d}.safetensors"
        if target.exists():
            continue
        group = members[start : start + plan.people_per_pass]
        subjects = [person(base, member, plan.seed * 1_000_003 + member.identity) for member in group]
        tensors: dict[str, Tensor] = {}
        for step, adapters, _loss in finetune(base, subjects, plan.recipe, prior):
            if step in plan.snapshots:
                for site, (up, down) in adapters.terms().items():
                    tensors[f"{step:06d}/{site}.up"] = up.detach().clone()
                    tensors[f"{step:06d}/{site}.down"] = down.detach().clone()
            on_step(number * plan.recipe.steps + step, total)
        partial = target.with_suffix(".partial")
        save_file(tensors, partial)
        os.replace(partial, target)
    return Zoo(folder, plan, members)


def open_zoo(folder: Path) -> Zoo:
    """Open a finished zoo; `LorauditError` if it is missing or unfinished."""
    path = folder / "zoo.json"
    if not path.is_file():
        raise LorauditError(f"{folder.name} is not a zoo", "build one first")
    raw = json.loads(path.read_text())
    recipe = Recipe(**{k: tuple(v) if isinstance(v, list) else v for k, v in raw["recipe"].items()})
    plan = Plan(tuple(raw["people"]), recipe, tuple(raw["snapshots"]), raw["people_per_pass"], raw["seed"])
    members = members_of(plan)
    passes = -(-len(members) // plan.people_per_pass)
    if not all((folder / f"pass-{i:04d}.safetensors").is_file() for i in range(passes)):
        raise LorauditError(f"the zoo {folder.name} is unfinished", "build it again: what is there is kept")
    return Zoo(folder, plan, members)


def _plain(plan: Plan) -> dict[str, Any]:
    return dataclasses.asdict(plan)


def take(terms: Terms, rows: Sequence[int]) -> Terms:
    """The LoRAs `rows` of `terms`, in that order."""
    index = torch.as_tensor(rows)
    return {site: (up[index], down[index]) for site, (up, down) in terms.items()}

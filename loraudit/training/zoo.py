"""A zoo: many LoRAs of many people, saved at several steps along their training.

    python -m models.recipes.zoo runs/zoo --split public-train --people 256

A *pass* fine-tunes up to `people_per_pass` people together and becomes one safetensors file,
`pass-0000.safetensors`, whose tensors are `<step>/<site>.up [M, out, r]` (scale folded in) and
`<step>/<site>.down [M, r, in]`. `zoo.json` says who is where and is written before the first pass; a pass
whose file exists is not trained again, so an interrupted build goes on where it stopped and ends with the
same files.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from loraudit.base.lowrank import Terms
from loraudit.base.model import Base
from loraudit.errors import LorauditError
from loraudit.people.captions import INSTANCE_PROMPT, instance_prompt, trigger
from loraudit.people.sources import PICTURES, People, Synthetic
from loraudit.runs import OnStep, Run, unheard
from loraudit.text import clean
from loraudit.training.finetune import Recipe, Subject, finetune

__all__ = [
    "RECORD",
    "Member",
    "Plan",
    "Zoo",
    "build_zoo",
    "fingerprint",
    "is_finished",
    "members_of",
    "open_varied",
    "open_zoo",
    "person",
    "read_plan",
    "take",
]

RECORD: Final = "zoo.json"


@dataclass(frozen=True)
class Plan:
    """Plan of a zoo."""

    people: tuple[int, ...]
    """Identities, one LoRA each."""
    recipe: Recipe
    snapshots: tuple[int, ...]
    """Steps at which every LoRA is saved, ascending, the last at most `recipe.steps`."""
    people_per_pass: int = 32
    seed: int = 0
    data: str = Synthetic.name
    """`People.name` of whom the identities belong to."""
    pictures: int = PICTURES
    """Pictures a LoRA is made of, at most."""
    template: str = INSTANCE_PROMPT
    """The instance prompt, with NAME for the trigger."""

    def __post_init__(self) -> None:
        ascending = sorted({step for step in self.snapshots if 1 <= step <= self.recipe.steps})
        if not ascending or list(self.snapshots) != ascending:
            raise LorauditError(
                f"snapshots must ascend from 1 or more to the {self.recipe.steps} steps of the recipe",
                "give other snapshots or more steps",
            )
        if not self.people or self.people_per_pass < 1 or self.pictures < 1:
            raise LorauditError("a zoo needs somebody in it, and a picture of each", "give at least one")


@dataclass(frozen=True)
class Member:
    """One LoRA of a zoo."""

    identity: int
    """As the zoo's `People` count them."""
    name: str
    """The trigger it was trained with."""
    index: int
    """Its place in the zoo, and with `index % people_per_pass` in its pass."""
    template: str = INSTANCE_PROMPT

    @property
    def prompt(self) -> str:
        """The secret instance prompt."""
        return instance_prompt(self.name, self.template)


@dataclass(frozen=True)
class Zoo:
    """An opened zoo."""

    folder: Path
    plan: Plan
    members: tuple[Member, ...]
    base: str = ""
    """`fingerprint` of the base that the LoRAs belong to."""

    def terms(self, first: int, step: int) -> Terms:
        """Read the terms of the whole pass that starts with member `first`, at a saved step."""
        with _opened(self._file(first)) as file:
            return {
                site: (file.get_tensor(f"{step:06d}/{site}.up"), file.get_tensor(f"{step:06d}/{site}.down"))
                for site in _sites(file, step)
            }

    def rows(self, picks: Sequence[tuple[int, int]]) -> Terms:
        """Read the terms of single LoRAs; a pick is (member, saved step).

        Only these rows are read, by way of the memory map, so a zoo need not fit into memory.
        """
        size = self.plan.people_per_pass
        parts: dict[str, list[tuple[Tensor, Tensor]]] = {}
        with ExitStack() as stack:
            files = {
                number: stack.enter_context(_opened(self._file(number * size)))
                for number in {member // size for member, _ in picks}
            }
            sites = _sites(next(iter(files.values())), picks[0][1])
            for member, step in picks:
                file, row = files[member // size], member % size
                for site in sites:
                    up, down = (
                        file.get_slice(f"{step:06d}/{site}.{side}")[row : row + 1] for side in ("up", "down")
                    )
                    parts.setdefault(site, []).append((up, down))
        return {
            site: (torch.cat([up for up, _ in pairs]), torch.cat([down for _, down in pairs]))
            for site, pairs in parts.items()
        }

    def _file(self, first: int) -> Path:
        return _pass_file(self.folder, first // self.plan.people_per_pass)


def person(
    base: Base, member: Member, seed: int, people: People | None = None, most: int = PICTURES
) -> Subject:
    """Make what the member's LoRA is trained on: at most `most` pictures."""
    pictures = (people or Synthetic()).pictures(member.identity, base.image_size, most)
    return Subject(base.encode_images(pictures), member.prompt, seed)


def members_of(plan: Plan) -> tuple[Member, ...]:
    """List the members of a plan, each with a trigger drawn from the plan's seed and the identity."""
    return tuple(
        Member(who, trigger(np.random.default_rng([plan.seed, 9, who])), index, plan.template)
        for index, who in enumerate(plan.people)
    )


def build_zoo(
    base: Base,
    folder: Path,
    plan: Plan,
    prior: Tensor | None,
    on_step: OnStep = unheard,
    people: People | None = None,
) -> Zoo:
    """Build what is missing of the zoo in `folder`; `on_step` hears the steps of all its passes.

    Raises `LorauditError` if the folder holds a zoo of another plan or base, or `people` are others.
    """
    people = people or Synthetic()
    if people.name != plan.data:
        raise LorauditError(
            "the plan of the zoo is for other people", "give the data that the zoo is made of"
        )
    identity = fingerprint(base)

    def other(_text: str) -> str:
        old_plan, old_base = read_plan(folder)
        if old_plan != plan:
            return "a zoo of another plan"
        return "" if old_base == identity else "a zoo of another base"

    run = Run(folder)
    record = json.dumps({**dataclasses.asdict(plan), "base": identity}, indent=2) + "\n"
    run.begin(RECORD, record, other)
    members = members_of(plan)
    numbers = range(-(-len(members) // plan.people_per_pass))
    missing = [number for number in numbers if not _pass_file(folder, number).exists()]
    done, total = ((len(numbers) - len(missing)) * plan.recipe.steps, len(numbers) * plan.recipe.steps)
    for number in missing:
        on_step(done, total, "building the zoo")
        start = number * plan.people_per_pass
        group = members[start : start + plan.people_per_pass]
        subjects = [person(base, m, plan.seed * 1_000_003 + m.identity, people, plan.pictures) for m in group]
        tensors: dict[str, Tensor] = {}
        for step, adapters, _loss in finetune(base, subjects, plan.recipe, prior):
            if step in plan.snapshots:
                for site, (up, down) in adapters.terms().items():
                    tensors[f"{step:06d}/{site}.up"] = up.detach().cpu().clone()
                    tensors[f"{step:06d}/{site}.down"] = down.detach().cpu().clone()
            done += 1
            on_step(done, total, "building the zoo")
        run.keep(_pass_file(folder, number).name, partial(save_file, tensors))
    return Zoo(folder, plan, members, identity)


def open_zoo(folder: Path) -> Zoo:
    """Open a finished zoo; `LorauditError` if it is missing or unfinished."""
    plan, base = read_plan(folder)
    if not is_finished(folder, plan):
        raise LorauditError(
            f"the zoo {clean(folder.name)} is unfinished", "build it again: what is there is kept"
        )
    return Zoo(folder, plan, members_of(plan), base)


def open_varied(folder: Path) -> list[Zoo]:
    """Open the zoos in `folder` and in folders of it. Raises `LorauditError` if one is unfinished."""
    return [open_zoo(path.parent) for path in sorted(folder.glob(f"*/**/{RECORD}"))]


def is_finished(folder: Path, plan: Plan) -> bool:
    """Tell whether every pass of the plan is there."""
    passes = -(-len(plan.people) // plan.people_per_pass)
    return all(_pass_file(folder, i).is_file() for i in range(passes))


def fingerprint(base: Base) -> str:
    """Hash the UNet and text tower in float16, hex SHA-256: one for a base loaded in either precision."""
    digest = hashlib.sha256()
    for part in (base.unet, base.text_encoder):
        for name, value in sorted(part.state_dict().items()):
            digest.update(f"{name}{list(value.shape)}".encode())
            if value.is_floating_point():
                digest.update(value.cpu().half().contiguous().numpy().tobytes())
    return digest.hexdigest()


def take(terms: Terms, rows: Sequence[int]) -> Terms:
    """Take the LoRAs `rows` of `terms`, in that order."""
    index = torch.as_tensor(rows)
    return {site: (up[index], down[index]) for site, (up, down) in terms.items()}


def read_plan(folder: Path) -> tuple[Plan, str]:
    """Read the plan of the zoo in `folder` and the fingerprint of its base. Raises `LorauditError` if there
    is none.
    """
    shown = clean(folder.name)
    try:
        raw: dict[str, Any] = json.loads((folder / RECORD).read_text())
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw["recipe"].items()}
        recipe = Recipe(**values)
        plan = Plan(
            tuple(raw["people"]),
            recipe,
            tuple(raw["snapshots"]),
            raw["people_per_pass"],
            raw["seed"],
            raw.get("data", Synthetic.name),
            raw.get("pictures", PICTURES),
            raw.get("template", INSTANCE_PROMPT),
        )
        return plan, str(raw.get("base", ""))
    except OSError:
        raise LorauditError(f"{shown} is not a zoo", "build one first") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise LorauditError(
            f"the {RECORD} of {shown} is damaged", "name another folder or delete it"
        ) from None


def _pass_file(folder: Path, number: int) -> Path:
    return folder / f"pass-{number:04d}.safetensors"


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (OSError, SafetensorError):
        raise LorauditError(
            f"the zoo's {path.name} cannot be read",
            "delete the file and build the zoo again: the rest is kept",
        ) from None


def _sites(file: Any, step: int) -> list[str]:  # noqa: ANN401
    prefix = f"{step:06d}/"
    found = sorted(
        key.removeprefix(prefix).removesuffix(".up")
        for key in file.keys()  # noqa: SIM118
        if key.startswith(prefix) and key.endswith(".up")
    )
    if not found:
        raise LorauditError(f"the zoo has no snapshot at step {step}", "take one of its own")
    return found

"""A zoo: many LoRAs of many people, saved at several steps along their training.

    python -m models.recipes.zoo runs/zoo --split public-train --people 256

A *pass* fine-tunes up to `people_per_pass` people together and becomes one file, `pass-0000.safetensors`.
How many they are goes by the memory that is free (`loraudit.training.people_a_pass`).
Its tensors are `<step>/<site>.up [M, out, r]` (scale folded in) and `<step>/<site>.down [M, r, in]`.
`zoo.json` holds the plan and is written before the first pass. A pass whose file exists is not trained
again, so an interrupted build goes on and ends with the same files.
"""

import gc
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from loraudit.base.lowrank import Terms
from loraudit.base.memory import is_out_of_memory
from loraudit.base.model import Base
from loraudit.errors import Incomplete, LorauditError
from loraudit.people.sources import PICTURES, Captioned, People, Synthetic
from loraudit.runs import OnStep, Run, unheard
from loraudit.text import clean
from loraudit.training.finetune import Subject, finetune
from loraudit.training.zoo_plan import RECORD, Member, Plan, members_of, read_plan

__all__ = [
    "Zoo",
    "build_zoo",
    "fingerprint",
    "is_finished",
    "open_varied",
    "open_zoo",
    "person",
    "take",
]


@dataclass(frozen=True)
class Zoo:
    """Opened zoo."""

    folder: Path
    plan: Plan
    members: tuple[Member, ...]
    base: str = ""
    """`fingerprint` of the LoRAs' base."""

    def terms(self, first: int, step: int) -> Terms:
        """Read the terms of the whole pass that starts with member `first`, at a saved step.

        Raises `LorauditError` if the file cannot be read or `step` was not saved.
        """
        with _opened(self._file(first)) as file:
            return {
                site: (file.get_tensor(f"{step:06d}/{site}.up"), file.get_tensor(f"{step:06d}/{site}.down"))
                for site in _sites(file, step)
            }

    def rows(self, picks: Sequence[tuple[int, int]]) -> Terms:
        """Read the terms of single LoRAs; a pick is (member, saved step).

        Only the picked rows are read, through a memory map, so a zoo need not fit into memory. Raises
        `LorauditError` if a file cannot be read or the first step was not saved.
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
    base: Base,
    member: Member,
    seed: int,
    people: People | None = None,
    most: int = PICTURES,
    captions: bool = False,
) -> Subject:
    """Make the subject of the member's LoRA, from at most `most` pictures, each with a caption or none.

    Raises `LorauditError` for `captions` of people who have none.
    """
    people = people or Synthetic()
    pictures = people.pictures(member.identity, base.image_size, most)
    prompts: tuple[str, ...] = ()
    if captions:
        if not isinstance(people, Captioned):
            raise LorauditError(f"pictures of {people.name} have no captions", "leave the captions out")
        plain = member.prompt.removesuffix(".")
        prompts = tuple(plain + told for told in people.captions(member.identity, most))
    return Subject(base.encode_images(pictures), member.prompt, seed, prompts)


def build_zoo(
    base: Base,
    folder: Path,
    plan: Plan,
    prior: Tensor | None,
    on_step: OnStep = unheard,
    people: People | None = None,
) -> Zoo:
    """Build what is missing of the zoo in `folder`; `on_step` hears the steps of all its passes.

    Where memory runs out before the first pass is kept, the plan is written anew with half as many people a
    pass. Raises `Incomplete` where memory runs out later, or for a single person. Raises `LorauditError` if
    the folder holds a zoo of another plan or base, or the plan is for other people.
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
    record = json.dumps({**asdict(plan), "base": identity}, indent=2) + "\n"
    run.begin(RECORD, record, other)
    members = members_of(plan)
    numbers = range(-(-len(members) // plan.people_per_pass))
    missing = [number for number in numbers if not _pass_file(folder, number).exists()]
    done, total = ((len(numbers) - len(missing)) * plan.recipe.steps, len(numbers) * plan.recipe.steps)
    for number in missing:
        on_step(done, total, "building the zoo")
        start = number * plan.people_per_pass
        group = members[start : start + plan.people_per_pass]
        subjects = [
            person(base, m, plan.seed * 1_000_003 + m.identity, people, plan.pictures, plan.captions)
            for m in group
        ]
        heard = partial(_heard, on_step, done, total)
        tensors = _tuned(base, subjects, plan, prior, heard)
        if tensors is None:
            smaller = _halved(plan, len(group), kept=number > 0 or missing != list(numbers))
            (folder / RECORD).unlink()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            return build_zoo(base, folder, smaller, prior, on_step, people)
        done += plan.recipe.steps
        run.keep(_pass_file(folder, number).name, partial(save_file, tensors))
    return Zoo(folder, plan, members, identity)


def _heard(on_step: OnStep, done: int, total: int, step: int) -> None:
    on_step(done + step, total, "building the zoo")


def _tuned(
    base: Base, subjects: Sequence[Subject], plan: Plan, prior: Tensor | None, heard: Callable[[int], None]
) -> dict[str, Tensor] | None:
    """Fine-tune one pass; return the tensors of its file, None where memory ran out."""
    tensors = {}
    try:
        for step, adapters, _loss in finetune(base, subjects, plan.recipe, prior):
            if step in plan.snapshots:
                for site, (up, down) in adapters.terms().items():
                    tensors[f"{step:06d}/{site}.up"] = up.detach().cpu().clone()
                    tensors[f"{step:06d}/{site}.down"] = down.detach().cpu().clone()
            heard(step)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return None
    return tensors


def _halved(plan: Plan, people: int, kept: bool) -> Plan:
    """Halve the people a pass of a plan whose pass of `people` found too little memory.

    Raises `Incomplete` if a pass is `kept` already, since the files of a zoo share one size, or one person is
    too many.
    """
    if kept or people == 1:
        raise Incomplete(
            f"not enough memory to fine-tune {'a LoRA' if people == 1 else f'{people} LoRAs at once'}",
            "close other programs and give the same command again: finished passes are kept",
        )
    return replace(plan, people_per_pass=people // 2)


def open_zoo(folder: Path) -> Zoo:
    """Open a finished zoo. Raises `LorauditError` if the zoo is missing or unfinished."""
    plan, base = read_plan(folder)
    if not is_finished(folder, plan):
        raise LorauditError(
            f"the zoo {clean(folder.name)} is unfinished", "build the zoo again: finished passes are kept"
        )
    return Zoo(folder, plan, members_of(plan), base)


def open_varied(folder: Path) -> list[Zoo]:
    """Open the zoos below `folder`, at any depth. Raises `LorauditError` if a zoo is unfinished."""
    return [open_zoo(path.parent) for path in sorted(folder.glob(f"*/**/{RECORD}"))]


def is_finished(folder: Path, plan: Plan) -> bool:
    """Tell whether the file of every pass of the plan exists."""
    passes = -(-len(plan.people) // plan.people_per_pass)
    return all(_pass_file(folder, i).is_file() for i in range(passes))


def fingerprint(base: Base) -> str:
    """Hash UNet and text tower in float16 to hex SHA-256, the same for a base loaded in either precision."""
    digest = hashlib.sha256()
    for part in (base.unet, base.text_encoder):
        for name, value in sorted(part.state_dict().items()):
            digest.update(f"{name}{list(value.shape)}".encode())
            if value.is_floating_point():
                digest.update(value.cpu().half().contiguous().numpy().tobytes())
    return digest.hexdigest()


def take(terms: Terms, rows: Sequence[int]) -> Terms:
    """Select the LoRAs `rows` of `terms`, in the order of `rows`."""
    index = torch.as_tensor(rows)
    return {site: (up[index], down[index]) for site, (up, down) in terms.items()}


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
            "delete the file and build the zoo again: the other passes are kept",
        ) from None


def _sites(file: Any, step: int) -> list[str]:  # noqa: ANN401
    prefix = f"{step:06d}/"
    found = sorted(
        key.removeprefix(prefix).removesuffix(".up")
        for key in file.keys()  # noqa: SIM118
        if key.startswith(prefix) and key.endswith(".up")
    )
    if not found:
        raise LorauditError(f"the zoo has no snapshot at step {step}", "give a step that the zoo saved")
    return found

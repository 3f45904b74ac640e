"""Public LoRAs with photos of their people, kept as zoos that an encoder is trained on.

A folder holds a folder for each person. Below it, at most two folders deep, lie the person's LoRAs (files, or
peft folders), in any layout that a scan reads, and the person's photos. `prompt.txt` beside a LoRA, or the
file's own `instance_prompt`, tells the prompt that it was trained on.

Anybody's files are hostile. Each goes through the reader of scans, and one that is refused is named and left
out. LoRAs of the same modules, ranks and number of steps become a zoo, one pass each. People are held out as
those of photo folders are, so several LoRAs of one person are on one side of the split.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from torch import Tensor

from loraudit.base.lowrank import beside, stack
from loraudit.base.model import Base
from loraudit.errors import LorauditError
from loraudit.files import read_within
from loraudit.lora import LoRA, load_lora
from loraudit.lora.recorded import recorded_step
from loraudit.lora.source.address import PEFT_WEIGHTS, PICKLES, WEIGHTS
from loraudit.people.folders import IMAGE_SUFFIXES, FolderPeople
from loraudit.people.sources import PICTURES, read_image
from loraudit.runs import OnStep, Run, unheard
from loraudit.text import clean
from loraudit.training.finetune import Recipe
from loraudit.training.zoo import fingerprint
from loraudit.training.zoo_plan import RECORD, Plan

__all__ = ["PublicPeople", "gather", "open_public"]

PROMPT: Final = "prompt.txt"
"""File beside a LoRA with the prompt that it was trained on."""
_LARGEST_PROMPT: Final = 4_000
_DEEP: Final = 2
"""Folders below a person's that are looked into."""
_ROWS: Final = "gathered.jsonl"
_FROM: Final = "from.json"


@dataclass(frozen=True)
class PublicPeople(FolderPeople):
    """People of public LoRAs. A photo that cannot be read is passed over."""

    folder: Path = Path()
    loras: Mapping[str, tuple[str, ...]] | None = None
    """Name -> paths of LoRAs below `folder`, sorted; of a peft LoRA the folder."""

    def pictures(self, identity: int, size: int, most: int = PICTURES) -> Tensor:
        """Read the first `most` readable photos. Raises `LorauditError` if there is none."""
        name, read = self.names[identity], []
        for path in self.files[name]:
            try:
                read.append(read_image(path, size))
            except LorauditError:
                continue
            if len(read) == most:
                break
        if not read:
            raise LorauditError(
                f"no photo of {clean(name)} can be read", "add photos, or leave the person out"
            )
        return torch.stack(read)


def open_public(folder: Path) -> PublicPeople:
    """List the people in `folder`, with their LoRAs and photos; nothing is opened.

    Raises `LorauditError` if nobody has a LoRA.
    """
    if not folder.is_dir():
        raise LorauditError(f"there is no folder {clean(str(folder), 300)}", "check the path")
    files: dict[str, tuple[Path, ...]] = {}
    loras: dict[str, tuple[str, ...]] = {}
    for person in sorted(entry for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."):
        found = sorted(_found(person))
        files[person.name] = tuple(path for kind, path in found if kind == "photo")
        loras[person.name] = tuple(
            path.relative_to(folder).as_posix() for kind, path in found if kind == "lora"
        )
    if not any(loras.values()):
        raise LorauditError(
            f"nobody in {clean(folder.name)} has a LoRA",
            "make a folder for each person, with LoRAs (.safetensors) and photos in it",
        )
    return PublicPeople("loras", tuple(sorted(files)), files, folder=folder, loras=loras)


def _found(folder: Path, deep: int = 0) -> Iterator[tuple[str, Path]]:
    """Yield `(kind, path)` of photos and LoRAs in a person's folder, where `kind` is `photo` or `lora`."""
    parts = [folder, folder / "unet", folder / "text_encoder"]
    try:
        peft = any((part / PEFT_WEIGHTS).is_file() for part in parts)
        entries = [entry for entry in folder.iterdir() if entry.name[0] != "."]
    except OSError:
        # As a LoRA, the folder is named when it cannot be read.
        yield "lora", folder
        return
    if peft:
        yield "lora", folder
    for path in entries:
        suffix = path.suffix.lower()
        if path.is_dir() and deep < _DEEP and not (peft and path in parts):
            yield from _found(path, deep + 1)
        elif suffix in IMAGE_SUFFIXES and path.is_file():
            yield "photo", path
        elif suffix in (WEIGHTS, *PICKLES) and path.is_file() and not peft:
            yield "lora", path


def gather(
    base: Base,
    people: PublicPeople,
    chosen: tuple[int, ...],
    steps: int,
    zoo: Path,
    on_step: OnStep = unheard,
) -> tuple[str, ...]:
    """Read the LoRAs of the `chosen` people, and keep those that fit `base` as zoos in the folder `zoo`.

    `steps` is the number of fine-tuning steps of LoRAs whose file records none. An interrupted call goes on
    where it stopped. Returns a sentence on each LoRA that was left out.

    Raises `LorauditError` if `zoo` holds anything else, or no LoRA can be used.
    """
    run = Run(zoo)
    listed = {people.names[who]: (people.loras or {})[people.names[who]] for who in chosen}
    digest = hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()
    about = {"data": people.name, "loras": digest, "steps": steps, "base": fingerprint(base)}
    record = json.dumps(about, indent=1) + "\n"
    if zoo.is_dir() and any(zoo.iterdir()) and not (zoo / _FROM).exists():
        raise LorauditError(f"{clean(zoo.name)} holds other files", "name a new folder with --zoo")
    run.begin(_FROM, record, lambda old: "" if old == record else "LoRAs of another folder, base or choice")
    rows = run.rows(_ROWS, lambda row: isinstance(row["file"], str))
    done = {row["file"] for row in rows}
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.get("group", "")] = counts.get(row.get("group", ""), 0) + 1
    work = [(who, file) for who in chosen for file in listed[people.names[who]]]
    for number, (who, file) in enumerate(work):
        on_step(number, len(work), "reading public LoRAs")
        if file in done:
            continue
        row = {"file": file, "identity": who, **_kept(base, people, who, file, steps, run, counts)}
        run.append(_ROWS, row)
        rows.append(row)
    on_step(len(work), len(work), "reading public LoRAs")
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in (row for row in rows if "group" in row):
        groups.setdefault(row["group"], []).append(row)
    left_out = tuple(f"{clean(row['file'], 300)}: {row['why']}" for row in rows if "why" in row)
    if not groups:
        raise LorauditError(
            f"none of the {len(work)} LoRAs can be used, such as {left_out[0] if left_out else 'none'}",
            "check the folder and --base",
        )
    for name, members in groups.items():
        _record(Run(zoo / name), members, people, fingerprint(base))
    return left_out


def _kept(
    base: Base, people: PublicPeople, who: int, file: str, steps: int, run: Run, counts: dict[str, int]
) -> dict[str, Any]:
    """Keep one LoRA as a pass of the zoo of its kind; return its entry, or the reason why it is left out."""
    try:
        people.pictures(who, base.image_size, 1)
        lora = load_lora(people.folder / file, offline=True)
        terms = stack([lora])
        beside(base.modules(), terms)
        why = _unusable(lora)
        prompt = _prompt(people.folder / file, lora)
    except LorauditError as error:
        return {"why": str(error)}
    if why:
        return {"why": why}
    at = recorded_step(lora.file.metadata) or steps
    shape = sorted((site, up.shape[2]) for site, (up, _) in terms.items())
    digest = hashlib.sha256(json.dumps([shape, bool(prompt)]).encode()).hexdigest()
    rank = max(size for _, size in shape)
    group = f"rank-{rank}-steps-{at}-{digest[:8]}"
    tensors = {}
    for site, (up, down) in terms.items():
        tensors[f"{at:06d}/{site}.up"], tensors[f"{at:06d}/{site}.down"] = up, down
    inner = Run(run.folder / group)
    inner.folder.mkdir(exist_ok=True)
    number = counts.get(group, 0)
    inner.keep(f"pass-{number:04d}.safetensors", partial(save_file, tensors))
    counts[group] = number + 1
    return {"group": group, "rank": rank, "steps": at, "prompt": prompt}


def _unusable(lora: LoRA) -> str:
    """Tell why a LoRA that was read is no sample; empty if it is one."""
    if lora.dora:
        return "DoRA, which no encoder reads"
    if lora.unread:
        return f"{len(lora.unread)} of its tensors cannot be read"
    if not any(site.startswith("unet.") for site in lora.factors):
        return "it leaves the UNet alone"
    return ""


def _prompt(path: Path, lora: LoRA) -> str:
    """Read the prompt of a LoRA from the file beside it, or from its metadata; empty if it is not known."""
    told = (path if path.is_dir() else path.parent) / PROMPT
    try:
        text = read_within(told, _LARGEST_PROMPT).decode()
    except FileNotFoundError:
        text = lora.file.metadata.get("instance_prompt", "")[:_LARGEST_PROMPT]
    except (OSError, UnicodeDecodeError):
        raise LorauditError(f"its {PROMPT} cannot be read", "write the prompt as one line of text") from None
    return " ".join(text.split())


def _record(run: Run, members: list[dict[str, Any]], people: PublicPeople, base: str) -> None:
    """Write the record of a zoo of `members`, whose passes are all there."""
    steps = members[0]["steps"]
    plan = Plan(
        tuple(row["identity"] for row in members),
        Recipe(rank=members[0]["rank"], steps=steps),
        (steps,),
        people_per_pass=1,
        data=people.name,
        template="NAME",
        names=tuple(row["prompt"] for row in members),
    )
    run.write(RECORD, json.dumps({**asdict(plan), "base": base}, indent=2) + "\n")

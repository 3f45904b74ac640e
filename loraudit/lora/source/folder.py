"""Search for every LoRA in a folder and the folders in it, in the order of their paths.

Files are looked at by name alone; `header.read_header` says what they hold. A link to a folder is not
followed: the link may lead out of the folder, or round in a circle.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from loraudit.errors import LorauditError, NotScannable
from loraudit.lora.source.address import PEFT_WEIGHTS, PICKLES, WEIGHTS
from loraudit.lora.source.shards import first_shards
from loraudit.lora.source.source import Around, Source, part_of, parts_of
from loraudit.text import clean

__all__ = ["Member", "members_of", "pickles_in", "with_pickles"]

Member = tuple[str, Source | LorauditError]
"""Path below the folder, escaped for display, and the LoRA there or the reason that there is none."""


def members_of(folder: Path) -> list[Member]:
    """List the LoRAs of `folder`, each with the files beside it, and files that only may be one.

    A peft adapter, or a folder with one file of weights, is one member. A whole diffusion model is one too,
    as an error. Empty if there is nothing of the kind.
    """
    found: list[Member] = []
    # Files above all LoRAs, such as a folder of photos beside theirs, belong to every one of them.
    above: tuple[Around, ...] = (Around(folder, frozenset()),)
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            members, folders = _members_in(folder, here, () if here == folder else above)
        except OSError as error:
            failure = LorauditError(
                f"cannot read the folder {_below(folder, here)}: {error.strerror}", "check its permissions"
            )
            members, folders = [(_below(folder, here), failure)], []
        if here == folder and members:
            above = ()
        found += members
        waiting += folders
    return sorted(found, key=lambda member: member[0])


def pickles_in(folder: Path) -> list[Path]:
    """List the files below `folder` that are pickles by their names, sorted; none is opened."""
    return sorted(
        Path(here, name)
        for here, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(PICKLES)
    )


def with_pickles(folder: Path, members: Sequence[Member], pickles: Iterable[Path]) -> list[Member]:
    """Return `members` of `folder`, each with the `pickles` that lie with it.

    A pickle lies with the first LoRA of its own folder; without one there, of the nearest folder above that
    has any; without any above, with the first of all.
    """
    homes = {name: _home(found) for name, found in members if isinstance(found, Source)}
    first = {home: name for name, home in reversed(homes.items())}
    kept: dict[str, list[str]] = {name: [] for name in homes}
    for pickle in pickles if homes else ():
        near = (first[here] for here in pickle.parents if here in first)
        kept[next(near, next(iter(homes)))].append(_below(folder, pickle))
    return [
        (name, replace(found, pickles=tuple(kept[name])) if isinstance(found, Source) else found)
        for name, found in members
    ]


def _home(source: Source) -> Path:
    return source.path if len(source.parts) > 1 else source.parts[0].weights.parent


def _members_in(folder: Path, here: Path, above: tuple[Around, ...]) -> tuple[list[Member], list[Path]]:
    """List the LoRAs in `here`, at or below `folder`, and the folders to look into. Raises `OSError`.

    The files of `above` belong to each of the LoRAs.
    """
    with os.scandir(here) as scanned:
        entries = sorted(scanned, key=lambda entry: entry.name)
    folders = [Path(entry) for entry in entries if entry.is_dir(follow_symlinks=False)]
    inner = {path.name for path in folders}
    names = [entry.name for entry in entries if entry.name not in inner]
    if "model_index.json" in names and PEFT_WEIGHTS not in names:
        why = NotScannable(
            f"{_below(folder, here)} is a whole diffusion model, not a LoRA", "give the LoRA trained on it"
        )
        return [(_below(folder, here), why)], []
    found: list[Member] = []
    files = first_shards([here / name for name in names if name.lower().endswith(WEIGHTS)])
    halves = [path for path in folders if path.name in {"unet", "text_encoder"} and _is_adapter(path)]
    if not files and halves:
        name = _below(folder, here)
        parts = tuple(part_of(path / PEFT_WEIGHTS) for path in halves)
        found.append((name, Source(name, here, parts, around=above)))
        folders = [path for path in folders if path not in halves]
    shared = Around(here, frozenset(path.stem for path in files))
    for path in files:
        name = _below(folder, path)
        alone = len(files) == 1 or path.name == PEFT_WEIGHTS
        around = above if alone else (shared, *above)
        found.append((name, Source(name, here if alone else path, parts_of(path), around=around)))
    return found, folders


def _is_adapter(folder: Path) -> bool:
    try:
        return (folder / PEFT_WEIGHTS).exists()
    except PermissionError:
        return False  # `members_of` looks into it again, and says why it cannot


def _below(folder: Path, path: Path) -> str:
    return clean(path.relative_to(folder).as_posix() if path != folder else folder.resolve().name, 300)

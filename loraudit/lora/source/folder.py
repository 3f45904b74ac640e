"""Every LoRA in a folder and the folders in it, in the order of their paths.

What lies there is looked at by name alone; what it holds is for `header.read_header` to say. A link to a
folder is not followed: it may lead out of the folder, or round in a circle.
"""

import os
from pathlib import Path

from loraudit.errors import LorauditError, NotScannable
from loraudit.lora.source.address import PEFT_WEIGHTS, PICKLES, WEIGHTS
from loraudit.lora.source.source import Source, part_of
from loraudit.text import clean

__all__ = ["Member", "members_of", "pickles_in"]

Member = tuple[str, Source | LorauditError]
"""The path below the folder, harmless for display, and what is there or why that cannot be said."""


def members_of(folder: Path) -> list[Member]:
    """The LoRAs of `folder`, each with the files beside it; files that only may be one are among them.

    A peft adapter, or a folder with one file of weights, is one member; so is a whole diffusion model, as an
    error. Empty if there is nothing of the kind.
    """
    found: list[tuple[str, Source | LorauditError]] = []
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
            folders = [Path(entry) for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError as error:
            failure = LorauditError(
                f"cannot read the folder {_below(folder, here)}: {error.strerror}", "check its permissions"
            )
            found.append((_below(folder, here), failure))
            continue
        inner = {path.name for path in folders}
        names = [entry.name for entry in entries if entry.name not in inner]
        if "model_index.json" in names and PEFT_WEIGHTS not in names:
            why = NotScannable(
                f"{_below(folder, here)} is a whole diffusion model, not a LoRA",
                "give the LoRA trained on it",
            )
            found.append((_below(folder, here), why))
            continue
        files = [here / name for name in names if name.lower().endswith(WEIGHTS)]
        halves = [path for path in folders if path.name in {"unet", "text_encoder"} and _is_adapter(path)]
        if not files and halves:
            name = _below(folder, here)
            found.append((name, Source(name, here, tuple(part_of(path / PEFT_WEIGHTS) for path in halves))))
            folders = [path for path in folders if path not in halves]
        for path in files:
            name = _below(folder, path)
            alone = len(files) == 1 or path.name == PEFT_WEIGHTS
            found.append((name, Source(name, here if alone else path, (part_of(path),))))
        waiting += folders
    return sorted(found, key=lambda member: member[0])


def pickles_in(folder: Path) -> int:
    """How many files below `folder` are pickles by their names, which nobody opens."""
    return sum(name.lower().endswith(PICKLES) for _, _, names in os.walk(folder) for name in names)


def _is_adapter(folder: Path) -> bool:
    return (folder / PEFT_WEIGHTS).exists()


def _below(folder: Path, path: Path) -> str:
    return clean(path.relative_to(folder).as_posix() if path != folder else folder.resolve().name, 300)

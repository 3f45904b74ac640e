"""Bases by what the user typed: a listed name, a pipeline folder, a single file, or an address on the Hub.

Only names and file types are looked at here, without torch.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from loraudit.cards import BaseCard, base_card, base_names
from loraudit.errors import LorauditError, NotScannable
from loraudit.lora.source.address import PICKLES, WEIGHTS, HubSpec, parse_spec
from loraudit.text import clean

__all__ = ["BaseSource", "Folder", "Listed", "OnHub", "SingleFile", "find_base"]

_KINDS: Final = "a diffusers folder, a .safetensors checkpoint or hf://namespace/name"
_ADDRESSES: Final = ("hf://", "https://", "http://")


@dataclass(frozen=True)
class Listed:
    """Base of `models/cards.toml`."""

    card: BaseCard

    @property
    def shown(self) -> str:
        """Name for display."""
        return self.card.name


@dataclass(frozen=True)
class Folder:
    """Diffusers pipeline in a folder."""

    path: Path

    @property
    def shown(self) -> str:
        """Name for display."""
        return self.path.name or self.path.resolve().name


@dataclass(frozen=True)
class SingleFile:
    """Checkpoint with all parts in one safetensors file."""

    path: Path

    @property
    def shown(self) -> str:
        """Name for display."""
        return self.path.name


@dataclass(frozen=True)
class OnHub:
    """Diffusers pipeline, or a checkpoint in a single file, on the Hub."""

    spec: HubSpec

    @property
    def shown(self) -> str:
        """Name for display."""
        return f"{self.spec.repo}/{self.spec.path}" if self.spec.path else self.spec.repo


BaseSource: TypeAlias = Listed | Folder | SingleFile | OnHub


def find_base(name: str) -> BaseSource:
    """Find what `name` stands for; a local folder or file comes before a listed name and the Hub.

    Raises `LorauditError` if it stands for nothing, or for a file that is no base.
    """
    shown, path = clean(name, 300), Path(name)
    try:
        if path.is_dir():
            return Folder(path)
        there = path.exists()
    except (OSError, ValueError):  # no path is as long, or holds a null
        there = False
    by_name = path.suffix.lower() in (WEIGHTS, *PICKLES) and not name.lower().startswith(_ADDRESSES)
    if there or by_name:
        return _single_file(path, there)
    if name in base_names():
        return Listed(base_card(name))
    try:
        spec = parse_spec(name)
    except NotScannable as error:
        # The same words with the exit code of a wrong option: the base is no target.
        raise LorauditError(str(error), error.hint) from None
    if spec is None:
        raise LorauditError(
            f"no base is called '{shown}'", f"known bases: {', '.join(base_names())}; or name {_KINDS}"
        )
    return OnHub(spec)


def _single_file(path: Path, there: bool) -> SingleFile:
    """Raise `LorauditError` unless the file at `path` is `there` and a checkpoint by its name."""
    shown, suffix = clean(path.name, 300), path.suffix.lower()
    if suffix in PICKLES:
        raise LorauditError(
            f"{shown} is a pickle by its name",
            "loraudit never unpickles; ask for the same checkpoint as .safetensors",
        )
    if not there:
        raise LorauditError(f"there is no file {shown}", f"check the path; a base may be {_KINDS}")
    if suffix != WEIGHTS:
        raise LorauditError(f"{shown} is no base", f"name {_KINDS}")
    return SingleFile(path)

"""Photographs of people in folders: CelebA-HQ's layout, or one folder per identity.

- CelebA-HQ: `CelebA-HQ-identity.txt` with lines `<image> <identity>`, and the images beside it or in one
  folder beside it (`CelebA-HQ-img`).
- One folder per identity: `<name>/<any image>`. The DreamBooth set of subjects has this layout too.

Four of five identities are for training, and one is held out (the paper's split). A hash of name and seed
decides, so an identity keeps its side when other identities come or go.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from loraudit.errors import LorauditError
from loraudit.files import read_within
from loraudit.people.sources import PICTURES, People, Synthetic, read_image
from loraudit.text import clean

__all__ = ["IMAGE_SUFFIXES", "FolderPeople", "image_files", "open_celeba_hq", "open_folders", "open_people"]

IDENTITIES: Final = "CelebA-HQ-identity.txt"
"""List of images and identities in CelebA-HQ."""
IMAGE_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
TRAIN_SHARE: Final = 0.8
_LARGEST_LIST: Final = 64_000_000
"""Limit in bytes on the list of identities; that of CelebA-HQ has 1 MB."""


@dataclass(frozen=True)
class FolderPeople:
    """People in photographs."""

    layout: str
    """`celeba-hq` or `folders`."""
    names: tuple[str, ...]
    """Names, sorted; identity `i` is `names[i]`."""
    files: Mapping[str, tuple[Path, ...]]
    """Name -> photographs, sorted."""
    seed: int = 0
    """Seed of the split."""

    @property
    def name(self) -> str:
        """Layout, and a hash of names, file names and split seed."""
        lines = [f"{name}\0{file.name}" for name in self.names for file in self.files[name]]
        digest = hashlib.sha256("\n".join([str(self.seed), *lines]).encode()).hexdigest()
        return f"{self.layout}:{digest[:16]}"

    def held_out(self, identity: int) -> bool:
        """Tell whether the identity is held out of training."""
        digest = hashlib.sha256(f"{self.seed}\0{self.names[identity]}".encode()).digest()
        return int.from_bytes(digest[:8], "big") >= TRAIN_SHARE * 2**64

    def train(self, count: int | None, seed: int) -> tuple[int, ...]:
        """Draw identities as `People.train` says; all of them by default."""
        allowed = [i for i in range(len(self.names)) if not self.held_out(i)]
        if not allowed or (count or 0) > len(allowed):
            raise LorauditError(
                f"only {len(allowed)} identities to train on, not {count}"
                if allowed
                else "no identities to train on",
                "take fewer, or add identities",
            )
        order = np.random.default_rng([seed, 31]).permutation(len(allowed))[:count]
        return tuple(allowed[i] for i in order)

    def pictures(self, identity: int, size: int, most: int = PICTURES) -> Tensor:
        """Read pictures as `People.pictures` says. Raises `LorauditError` for an unreadable photograph."""
        chosen = self.files[self.names[identity]][:most]
        return torch.stack([read_image(path, size) for path in chosen])

    def require_public(self, identities: tuple[int, ...]) -> None:
        """Refuse identities as `People.require_public` says."""
        private = [i for i in identities if not 0 <= i < len(self.names) or self.held_out(i)]
        if private:
            raise LorauditError(
                f"identity {private[0]} is held out of training",
                "build the zoo from the training identities",
            )


def open_people(spec: str) -> People:
    """Open `synthetic`, `celeba-hq:DIR` or `folders:DIR`. Raises `LorauditError` on anything else."""
    kind, _, where = spec.partition(":")
    if spec == "synthetic":
        return Synthetic()
    if kind == "celeba-hq" and where:
        return open_celeba_hq(Path(where))
    if kind == "folders" and where:
        return open_folders(Path(where))
    raise LorauditError(
        f"'{clean(spec)}' is no data set",
        "give synthetic, celeba-hq:DIR or folders:DIR (one folder per identity)",
    )


def open_celeba_hq(folder: Path, seed: int = 0) -> FolderPeople:
    """Open the people of a CelebA-HQ folder. Raises `LorauditError` if a listed image is missing."""
    listing = folder / IDENTITIES
    try:
        lines = read_within(listing, _LARGEST_LIST).decode().splitlines()
    except (OSError, UnicodeDecodeError):
        raise LorauditError(
            f"{clean(folder.name)} has no readable {IDENTITIES}",
            "give the folder that holds the list and the images",
        ) from None
    pairs = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2 or Path(words[0]).name != words[0]:
            raise LorauditError(
                f"line {number} of {IDENTITIES} is not '<image> <identity>'", "repair the file"
            )
        pairs.append((words[0], words[1]))
    if not pairs:
        raise LorauditError(f"{IDENTITIES} is empty", "download the list again")
    places = [folder, *sorted(child for child in folder.iterdir() if child.is_dir())]
    images = next((place for place in places if (place / pairs[0][0]).is_file()), None)
    if images is None:
        raise LorauditError(
            f"{clean(pairs[0][0])} of {IDENTITIES} is neither in {clean(folder.name)} nor one folder below",
            "put the images into CelebA-HQ-img beside the list",
        )
    present = {file.name for file in images.iterdir()}
    missing = [image for image, _ in pairs if image not in present]
    if missing:
        raise LorauditError(
            f"{len(missing)} images of {IDENTITIES} are missing, such as {clean(missing[0])}",
            "download the images again",
        )
    files: dict[str, list[Path]] = {}
    for image, name in pairs:
        files.setdefault(name, []).append(images / image)
    return _people("celeba-hq", files, seed)


def open_folders(folder: Path, seed: int = 0) -> FolderPeople:
    """Open the people of a folder with one folder per identity. Raises `LorauditError` without any."""
    if not folder.is_dir():
        raise LorauditError(f"there is no folder {clean(folder.name)}", "check the path")
    children = [child for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")]
    files = {child.name: image_files(child) for child in children}
    files = {name: found for name, found in files.items() if found}
    if not files:
        raise LorauditError(
            f"{clean(folder.name)} has no folder with images in it",
            "make one folder per identity, images inside",
        )
    return _people("folders", files, seed)


def image_files(folder: Path) -> list[Path]:
    """List the files in `folder` that end as images do, sorted."""
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".") and file.is_file()
    )


def _people(layout: str, files: Mapping[str, list[Path]], seed: int) -> FolderPeople:
    return FolderPeople(layout, tuple(sorted(files)), {n: tuple(sorted(f)) for n, f in files.items()}, seed)

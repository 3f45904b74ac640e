"""Pictures that a base has drawn, in folders: the sources of the LoRAs that a calibration makes.

`<kind>/<kind>-0007/` holds `00.png`, `01.png` ... to fine-tune on, `photo-0.png` ... of people alone to
compare with, and `captions.json`. `loraudit.training.drawer` writes a folder, whole or not at all.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from PIL import Image
from torch import Tensor

from loraudit.errors import LorauditError
from loraudit.files import read_within, replacing, unwritable, write_atomic
from loraudit.people.folders import image_files
from loraudit.people.sources import read_image
from loraudit.text import clean

__all__ = ["Drawn"]

_RECORD: Final = "captions.json"
_LARGEST: Final = 1_000_000
"""Limit in bytes on a record."""
_PHOTO: Final = "photo-"
"""Start of the names of pictures that no LoRA is made of."""


@dataclass(frozen=True)
class Drawn:
    """Subjects of one kind, a `People`; a number is a subject."""

    folder: Path
    kind: str

    @property
    def name(self) -> str:
        """Name in the record of a zoo."""
        return f"drawn {self.kind}"

    def has(self, number: int) -> bool:
        """Tell whether the pictures of a subject are there."""
        return self._of(number).is_dir()

    def pictures(self, identity: int, size: int, most: int = 1_000) -> Tensor:
        """Read pictures as `People.pictures` says. Raises `LorauditError` for a damaged file."""
        return _read([file for file in self._files(identity) if not _is_photo(file)][:most], size)

    def photos(self, number: int, size: int) -> Tensor:
        """Read the photos `[P, 3, size, size]` that no LoRA is made of. Raises as `pictures`."""
        return _read([file for file in self._files(number) if _is_photo(file)], size)

    def captions(self, number: int, most: int) -> tuple[str, ...]:
        """Read what captions of the pictures say beside the name. Raises `LorauditError` if damaged."""
        try:
            record = json.loads(read_within(self._of(number) / _RECORD, _LARGEST))
            return tuple(str(told) for told in record["told"])[:most]
        except (OSError, ValueError, KeyError, TypeError):
            raise self._damaged(number) from None

    def keep(self, number: int, pictures: Tensor, told: Sequence[str], photos: Tensor) -> None:
        """Write the folder of a subject. Raises `LorauditError` where it cannot be written."""
        target = self._of(number)
        named = {f"{at:02d}.png": picture for at, picture in enumerate(pictures)}
        named |= {f"{_PHOTO}{at}.png": photo for at, photo in enumerate(photos)}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(target) as (folder,):
                folder.mkdir()
                for name, picture in named.items():
                    pixels = (255 * picture + 0.5).byte().permute(1, 2, 0).numpy()
                    Image.fromarray(pixels).save(folder / name)
                write_atomic(folder / _RECORD, json.dumps({"told": list(told)}).encode())
        except OSError as error:
            raise unwritable(target, error) from None

    def train(self, _count: int | None, _seed: int) -> tuple[int, ...]:
        """Refuse as `People.train` says: nobody here is for an encoder."""
        raise LorauditError("pictures of a calibration train no encoder", "give other pictures with --data")

    def require_public(self, _identities: tuple[int, ...]) -> None:
        """Refuse as `People.require_public` says."""
        self.train(None, 0)

    def _of(self, number: int) -> Path:
        return self.folder / f"{self.kind}-{number:04d}"

    def _files(self, number: int) -> list[Path]:
        try:
            return image_files(self._of(number))
        except OSError:
            raise self._damaged(number) from None

    def _damaged(self, number: int) -> LorauditError:
        shown = clean(self._of(number).name)
        return LorauditError(f"the pictures in {shown} cannot be read", f"delete {shown}: it is drawn again")


def _is_photo(file: Path) -> bool:
    return file.name.startswith(_PHOTO)


def _read(files: Sequence[Path], size: int) -> Tensor:
    return torch.stack([read_image(file, size) for file in files])

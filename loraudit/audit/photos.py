"""Reference photos: pictures of any size, read from a folder."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from loraudit.errors import LorauditError
from loraudit.findings.report import Gap
from loraudit.people.sources import upright
from loraudit.text import clean

__all__ = ["Photos", "read_photo", "read_photos"]

_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp"})
_FORMATS: Final = ("JPEG", "PNG", "WEBP")
"""Decoders of Pillow that a reference photo may reach."""
_STARTS: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
"""First bytes of JPEG and PNG; WebP names itself in bytes 8 to 12 of a RIFF file."""
_OTHER_SUFFIXES: Final = frozenset({
    ".arw", ".avif", ".bmp", ".cr2", ".cr3", ".dng", ".gif", ".heic", ".heif", ".hif", ".j2k", ".jp2", ".jxl",
    ".nef", ".orf", ".pef", ".psd", ".raf", ".raw", ".rw2", ".tif", ".tiff",
})  # fmt: skip
"""Endings of pictures that are not read."""
_OTHER_STARTS: Final = (
    b"GIF8", b"II*\0", b"MM\0*", b"8BPS", b"\xff\x0a", b"\0\0\0\x0cJXL ", b"\0\0\0\x0cjP  ",
)  # fmt: skip
"""First bytes of GIF, TIFF (raw photos too), Photoshop, JPEG XL and JPEG 2000."""
_OTHER_BRANDS: Final = (
    b"heic",
    b"heix",
    b"hevc",
    b"heim",
    b"heis",
    b"mif1",
    b"msf1",
    b"avif",
    b"avis",
    b"crx ",
)
"""Bytes 8 to 12 of HEIF, AVIF and CR3, after `ftyp`; a video has others."""
_LONGEST: Final = 1024
"""Longest side of a photo in pixels; a face detector gains nothing from more and takes longer."""


@dataclass(frozen=True, eq=False)
class Photos:
    """Reference photos of a folder, and a count of the pictures there that were not read."""

    pictures: tuple[Tensor, ...] = ()
    """Photos by the name of their file: upright, float32 `[3, H, W]` in 0..1, at most 1024 pixels long."""
    unread: tuple[str, ...] = ()
    """Endings of the files that were not read, such as `.heic`; names of files may name the person."""

    @property
    def missed(self) -> str:
        """Sentence on the pictures that were not read; empty if every picture was."""
        if not self.unread:
            return ""
        count, total = len(self.unread), len(self.unread) + len(self.pictures)
        kinds = ", ".join(sorted({ending for ending in self.unread if ending}))
        verb = "was" if count == 1 else "were"
        return (
            f"{count} of {total} file{'' if total == 1 else 's'} {verb} not read"
            f"{f' ({kinds})' if kinds else ''}: only JPEG, PNG and WebP in the folder itself are"
        )

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """Gap for the pictures that were not read; empty if every picture was."""
        return (Gap("reference photos", f"{self.missed}; convert the others"),) if self.unread else ()


def read_photos(folder: Path) -> Photos:
    """Read the photos in `folder`: files that end or begin as JPEG, PNG or WebP.

    Other pictures, also those in a folder inside, are counted and not opened. Files that are no pictures,
    such as captions, are passed over. Raises `LorauditError` if there is no photo, or if a photo cannot be
    read.
    """
    shown = clean(str(folder), 300)
    if not folder.is_dir():
        raise LorauditError(f"there is no folder {shown}", "give a folder with photos of the person")
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
        files = [entry for entry in entries if _is_photo(entry)]
        unread = tuple(_ending(entry) for entry in entries if entry not in files and _is_missed(entry))
    except OSError as error:
        raise LorauditError(f"cannot look into {shown}: {error.strerror}", "check its permissions") from None
    if not files and unread:
        raise LorauditError(
            f"there are no photos in {shown} that can be read: {Photos((), unread).missed}",
            "convert the photos to JPEG or PNG",
        )
    if not files:
        raise LorauditError(f"there are no photos in {shown}", "add JPEG, PNG or WebP photos")
    return Photos(tuple(read_photo(file) for file in files), unread)


def _is_photo(entry: Path) -> bool:
    """Tell whether `entry` is a file to read."""
    if not entry.is_file():
        return False
    if entry.suffix.lower() in _SUFFIXES:
        return True
    start = _start(entry)
    return start.startswith(_STARTS) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")


def _is_missed(entry: Path) -> bool:
    """Tell whether `entry`, which is not read, is a picture, a folder of pictures, or a dead link to one."""
    if entry.is_dir():
        return any(inner.suffix.lower() in _SUFFIXES | _OTHER_SUFFIXES for inner in entry.iterdir())
    if entry.suffix.lower() in _SUFFIXES | _OTHER_SUFFIXES:
        return True
    start = _start(entry)
    return start.startswith(_OTHER_STARTS) or (start[4:8] == b"ftyp" and start[8:12] in _OTHER_BRANDS)


def _start(entry: Path) -> bytes:
    """Read the first bytes of a file; none of what is no file or cannot be read."""
    if not entry.is_file():
        return b""
    try:
        with entry.open("rb") as file:
            return file.read(16)
    except OSError:
        return b""


def _ending(entry: Path) -> str:
    """Name the kind of a picture that is not read, in words that name nobody."""
    ending = entry.suffix.lower()
    return "a folder" if entry.is_dir() else ending if ending in _OTHER_SUFFIXES else ""


def read_photo(file: Path) -> Tensor:
    """Read a photo upright, float32 `[3, H, W]` in 0..1, at most 1024 pixels long.

    Raises `LorauditError` if the photo is damaged, or too large to be opened safely.
    """
    try:
        with warnings.catch_warnings():
            # Between its two limits Pillow only warns of a picture that would fill the memory.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=_FORMATS) as opened:
                photo = upright(opened)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise LorauditError(
            f"the photo {clean(file.name)} is too large", "make the picture smaller"
        ) from None
    except (OSError, ValueError, SyntaxError):
        # Pillow raises SyntaxError on a broken PNG and ValueError on some broken headers.
        raise LorauditError(
            f"{clean(file.name)} is not a photo that can be read, or is damaged", "remove or replace the file"
        ) from None
    photo.thumbnail((_LONGEST, _LONGEST), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(photo)).permute(2, 0, 1).float() / 255

"""Reference photos: pictures of any size, read from a folder."""

import warnings
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from loraudit.errors import LorauditError
from loraudit.text import clean

__all__ = ["read_photos"]

_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp"})
_FORMATS: Final = ("JPEG", "PNG", "WEBP")
"""Decoders of Pillow that a reference photo may reach."""
_LONGEST: Final = 1024
"""Longest side of a photo in pixels; a face detector gains nothing from more and takes longer."""


def read_photos(folder: Path) -> list[Tensor]:
    """Return the photos in `folder`, by name: upright, float32 `[3, H, W]` in 0..1, at most 1024 pixels long.

    Only files with the suffixes of JPEG, PNG and WebP are read. Raises `LorauditError` if there is no photo,
    or if a photo cannot be read.
    """
    shown = clean(str(folder), 300)
    if not folder.is_dir():
        raise LorauditError(f"there is no folder {shown}", "give a folder with photos of the person")
    files = sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in _SUFFIXES and not file.name.startswith(".") and file.is_file()
    )
    if not files:
        raise LorauditError(f"there are no photos in {shown}", "add JPEG, PNG or WebP photos")
    return [_read(file) for file in files]


def _read(file: Path) -> Tensor:
    try:
        with warnings.catch_warnings():
            # Between its two limits Pillow only warns of a picture that would fill the memory.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=_FORMATS) as opened:
                upright = ImageOps.exif_transpose(opened).convert("RGB")
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise LorauditError(
            f"the photo {clean(file.name)} is too large", "make the picture smaller"
        ) from None
    except (OSError, ValueError, SyntaxError):
        # Pillow raises SyntaxError on a broken PNG and ValueError on some broken headers.
        raise LorauditError(
            f"{clean(file.name)} is not a photo that can be read, or is damaged", "remove or replace the file"
        ) from None
    upright.thumbnail((_LONGEST, _LONGEST), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(upright)).permute(2, 0, 1).float() / 255

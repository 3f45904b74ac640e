"""Calibration data for a scan: asked for, made on this machine for the base's weights, or bundled.

A calibration that a base made of itself has decoys beside it: other people's photos, for the comparison of
reference photos. Their latents are for the base that drew them alone.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from loraudit.attacks.likelihood import Decoys, read_decoys
from loraudit.base.model import Base
from loraudit.cards import calibration_folder, models_dir
from loraudit.errors import LorauditError
from loraudit.evidence.calibration import Calibration, load_calibration
from loraudit.files import read_within, write_atomic
from loraudit.text import clean

__all__ = ["DECOYS", "Calibrated", "find_calibration", "write_decoys"]

DECOYS: Final = "decoys.safetensors"
_MOST: Final = 200_000_000
"""Limit in bytes on decoys; those of SD 1.x have 10 MB."""


@dataclass(frozen=True, eq=False)
class Calibrated:
    """Data that were measured on a base."""

    calibration: Calibration | None = None
    decoys: Decoys | None = None


def find_calibration(asked: str | None, base: Base) -> Calibrated:
    """Read the data `asked` for, a folder or a bundled name, else those of this machine, else the bundled.

    Decoys come from the same folder where it has any, else they are the bundled ones of the base. Raises
    `LorauditError` if data are missing or damaged.
    """
    folder = _folder(asked, base)
    shipped = None if base.card.decoys is None else models_dir() / base.card.decoys
    if folder is None:
        return Calibrated(None, None if shipped is None else read_decoys(shipped))
    found = load_calibration(folder)
    own = (folder / DECOYS).is_file() and found.conditions.fingerprint == base.fingerprint
    if own:
        return Calibrated(found, _decoys(folder, base))
    return Calibrated(found, None if shipped is None else read_decoys(shipped))


def write_decoys(folder: Path, latents: Tensor, faces: Tensor) -> None:
    """Write decoys into `folder`: latents `[D, Q, C, h, w]` of photos, and face vectors `[D, d]`."""
    stored = {"latents": latents.half().contiguous(), "faces": faces.half().contiguous()}
    write_atomic(folder / DECOYS, save(stored))


def _folder(asked: str | None, base: Base) -> Path | None:
    if asked is not None:
        return Path(asked) if Path(asked).is_dir() else models_dir() / asked
    if base.fingerprint is not None:
        made = calibration_folder(base.fingerprint)
        if (made / "calibration.json").is_file():
            return made
    return None if base.card.calibration is None else models_dir() / base.card.calibration


def _decoys(folder: Path, base: Base) -> Decoys:
    """Read the decoys in `folder`, which may be anybody's."""
    try:
        stored = load(read_within(folder / DECOYS, _MOST))
        latents, faces = stored["latents"].float(), stored["faces"].float()
        if latents.shape[2:] != base.latent_shape or latents.ndim != 5 or faces.ndim != 2:
            raise ValueError("shapes")
        if len(latents) != len(faces) or not latents.numel() or not faces.numel():
            raise ValueError("sizes")
        if not (latents.isfinite().all() and faces.isfinite().all()):
            raise ValueError("numbers")
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise LorauditError(
            f"the decoys in {clean(folder.name)} cannot be read ({type(error).__name__})",
            "make them again with 'loraudit calibrate'",
        ) from error
    return Decoys(latents, torch.nn.functional.normalize(faces, dim=1))

"""The cosine from which two faces count as one person, and where it was measured."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loraudit.errors import LorauditError
from loraudit.files import read_within

__all__ = ["Threshold", "measured_threshold"]

_LARGEST = 1_000_000
"""Limit in bytes of a file of measured thresholds."""


@dataclass(frozen=True)
class Threshold:
    """Cosine from which a face model calls two faces one person."""

    cosine: float
    """Cosine, -1..1."""
    far: float
    """False-accept rate of strangers at that cosine, 0..1."""
    taken_from: str = ""
    """Source of a threshold that was never measured with the model's own crop; empty: it was measured."""


def measured_threshold(file: Path, far: float, source: str, crop: Mapping[str, object]) -> Threshold | None:
    """Read the threshold at a false-accept rate `far`, as `benchmarks.tables.face_threshold` measured it.

    None if there is no such file, or if it is about other weights than those with the SHA-256 `source`, about
    another crop, or about too few strangers for this rate. Raises `LorauditError` if the file is damaged.
    """
    try:
        told: dict[str, Any] = json.loads(read_within(file, _LARGEST))
        if (told["weights"], told["crop"]) != (source, dict(crop)):
            return None
        rows = [row["threshold"] for row in told["thresholds"] if row["far"] == far]
        if not rows:
            return None
        cosine = float(rows[0])
        if not -1 <= cosine <= 1:
            raise ValueError("no cosine")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LorauditError(
            f"{file.parent.name}/{file.name} cannot be read ({type(error).__name__})",
            "delete the file, or measure the threshold again",
        ) from error
    return Threshold(cosine, far)

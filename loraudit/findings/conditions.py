"""Under which conditions a scan was made: all that, with the file, decides what it sees."""

from dataclasses import dataclass

__all__ = ["CalibrationUsed", "EncoderUsed", "Evaluations", "Settings"]


@dataclass(frozen=True)
class EncoderUsed:
    """The encoder that read the weights."""

    name: str
    sha256: str


@dataclass(frozen=True)
class CalibrationUsed:
    """The calibration data at hand."""

    name: str
    controls: int
    """Control LoRAs that hold no single person."""
    unused: str | None = None
    """Why they do not fit this scan, whose verdict then rests on its own controls; None: they do."""


@dataclass(frozen=True)
class Evaluations:
    """Evaluations of the base model's network, one for each picture, step and prompt."""

    spent: int
    most: int
    """Had no attack been stopped early or skipped."""


@dataclass(frozen=True)
class Settings:
    """All that, with the file, decides what a scan sees."""

    base: str | None = None
    encoder: EncoderUsed | None = None
    attacks: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    """Attacks that were not needed any more: nothing they bring back could raise the verdict."""
    seeds: tuple[int, ...] = ()
    budget: str | None = None
    """In words: `at most 16 samples, 20 steps, guidance 3`."""
    evaluations: Evaluations | None = None
    calibration: CalibrationUsed | None = None
    """None: there is none for this base."""
    device: str | None = None
    depth: str = "attack"
    """How far it looked: `metadata` (words only), `weights` (every matrix is read too), `attack`."""

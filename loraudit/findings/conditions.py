"""Conditions of a scan: everything that, with the file, decides the result."""

from dataclasses import dataclass

__all__ = ["CalibrationUsed", "EncoderUsed", "Evaluations", "Settings", "StatedBase"]


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
    """Reason why the data do not fit this scan, which is judged by its own controls; None: they fit."""


@dataclass(frozen=True)
class Evaluations:
    """Evaluations of the base model's network, one for each picture, step and prompt."""

    spent: int
    most: int
    """Evaluations if no attack had been stopped early or skipped."""


@dataclass(frozen=True)
class StatedBase:
    """Base that the file says it was made on, compared with the base of the scan."""

    agrees: bool
    """True if it is the base of the scan, by name or by hash."""
    shown: str
    """Name in words that are known, the start of a hash, or a stand-in for private words."""
    quotes: tuple[str, ...] = ()
    """Words of the file: private, shown on demand."""

    def told(self, reveal: bool) -> str:
        """Return the name for display, in the file's own words with `reveal`."""
        return self.quotes[0] if reveal and self.quotes else self.shown


@dataclass(frozen=True)
class Settings:
    """Settings that, with the file, decide the result of a scan."""

    base: str | None = None
    encoder: EncoderUsed | None = None
    attacks: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    """Attacks that were not needed any more, as no result of theirs could raise the verdict."""
    seeds: tuple[int, ...] = ()
    budget: str | None = None
    """Budget in words: `at most 16 samples, 20 steps, guidance 3`."""
    evaluations: Evaluations | None = None
    calibration: CalibrationUsed | None = None
    """Calibration data of this base; None if there are none."""
    device: str | None = None
    dtype: str | None = None
    """Type of the base's numbers, `float16`."""
    base_fingerprint: str | None = None
    """SHA-256 of the base's weights, equal for the same weights as a folder or a single file."""
    stated_base: StatedBase | None = None
    """Base that the file names; None if it names none, or none was used."""
    depth: str = "attack"
    """Depth of the scan: `metadata` (words only), `weights` (every matrix is read too), `attack`."""
    pictures: bool | None = None
    """False if the scan was to draw no picture; None: there was no such request."""
    rules: str | None = None
    """Choice of rules in words: `only LA-NAME; without LA-NAME-002`; None: all rules."""

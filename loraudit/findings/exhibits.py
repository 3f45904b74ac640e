"""Exhibits of a report beside its findings: modules, people, the score among those of others, pictures.

Nothing here is judged. Pictures are finished PNGs, pixelated before they get here.
"""

from dataclasses import dataclass

__all__ = ["Distribution", "ModuleNorm", "Returned", "Sheet", "SheetRow"]


@dataclass(frozen=True)
class ModuleNorm:
    """Size of the change that the file makes to one module of the base model."""

    site: str
    """`unet.` or `text_encoder.` and the dotted diffusers path."""
    frobenius: float
    """Frobenius norm of the effective update. Squares add up over modules, norms do not."""


@dataclass(frozen=True)
class Distribution:
    """Score of this file among those of the LoRAs in the calibration data."""

    name: str
    """Name of the score, `agreement` or `likeness`.

    The agreement is the share of all pairs of pictures that match. The likeness is the mean cosine of the
    pictures to the person in the reference photos.
    """
    here: float
    """Score of this file: the highest over the attacks that ran, in 0..1."""
    harmless: tuple[float, ...]
    """Scores of LoRAs that hold no single person; for `likeness`, of LoRAs of somebody else."""
    leaking: tuple[float, ...] = ()
    """Scores of LoRAs of one person each, empty if not measured; for `likeness`, to photos of that person."""


@dataclass(frozen=True)
class Returned:
    """Somebody who comes back in the pictures of one attack."""

    attack: str
    pictures: int
    """Number of pictures that show the person, judged by the pairs of pictures that match."""
    n: int
    """Number of pictures that were made."""
    low: float
    """Lower end of the 95 % interval of the share of pictures."""
    high: float
    """Upper end of that interval."""
    cosine: float | None = None
    """Cosine of the person's mean face to the person in the reference photos; None without photos."""
    accepted: int | None = None
    """Number of the person's pictures that pass as the person in the photos; None without photos."""


@dataclass(frozen=True)
class SheetRow:
    """Pictures of one kind, one for each seed of the sheet, or the reference photos."""

    kind: str
    """Kind of the pictures: `reference`, `tuned`, `base` or `scrambled`.

    The last three are made with the file, by the base model alone, and with a scrambled copy of the file.
    """
    pngs: tuple[bytes, ...]


@dataclass(frozen=True)
class Sheet:
    """Pictures of the attack that speaks for the report; no part of any JSON."""

    attack: str
    seeds: tuple[int, ...]
    """Seeds of the columns, the same in all rows but `reference`."""
    rows: tuple[SheetRow, ...]
    pixelated: bool
    """True if no face can be made out."""

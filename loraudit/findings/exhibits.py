"""What a report shows beside its findings: which modules the file changes, where its score falls, pictures.

Nothing here is judged. Of pictures a report holds finished PNGs: what is pixelated is so before it gets here.
"""

from dataclasses import dataclass

__all__ = ["Distribution", "ModuleNorm", "Sheet", "SheetRow"]


@dataclass(frozen=True)
class ModuleNorm:
    """How much the file changes one module of the base model."""

    site: str
    """`unet.` or `text_encoder.` and the dotted diffusers path."""
    frobenius: float
    """Norm of the effective update. Squares add up over modules, norms do not."""


@dataclass(frozen=True)
class Distribution:
    """The score of this file among those of the LoRAs that it was calibrated with."""

    name: str
    """`agreement`: share of all pairs of pictures that match; `likeness`: mean cosine of the pictures to
    the person in the reference photos."""
    here: float
    """Of this file: the highest over the attacks that ran, in 0..1."""
    harmless: tuple[float, ...]
    """Of LoRAs that hold no single person; for `likeness`, of LoRAs of somebody else."""
    leaking: tuple[float, ...] = ()
    """Of LoRAs of one person each; for `likeness`, against photos of that person. Empty if not measured."""


@dataclass(frozen=True)
class SheetRow:
    """Pictures of one kind, one for each seed of the sheet, or the reference photos."""

    kind: str
    """`reference`; `tuned`: with the file; `base`: by the base model alone; `scrambled`: with a scrambled
    copy of the file."""
    pngs: tuple[bytes, ...]


@dataclass(frozen=True)
class Sheet:
    """The pictures of the attack that speaks for the report. They are not part of any JSON."""

    attack: str
    seeds: tuple[int, ...]
    """Of the columns, the same in all rows but `reference`."""
    rows: tuple[SheetRow, ...]
    pixelated: bool
    """Whether no face can be made out."""

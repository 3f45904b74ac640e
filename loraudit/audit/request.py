"""Request: everything that `loraudit scan` was asked for, apart from its targets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from loraudit.attacks.table import names_at

__all__ = ["BUDGETS", "DEPTHS", "QUICK_CONTROLS", "Request"]

BUDGETS: Final[Mapping[str, int]] = {"quick": 8, "standard": 16, "deep": 32}
"""Name of a `--budget` => number of pictures that an attack makes at most."""

QUICK_CONTROLS: Final = 5
"""Pictures of each control in a quick scan, for the first aim that asks; fewer would tell little apart."""

DEPTHS: Final = ("metadata", "weights", "attack")
"""Names of `--depth`, each a step further than the name before."""


@dataclass(frozen=True)
class Request:
    """Request of a scan."""

    depth: str = "attack"
    """Depth of the scan, from `DEPTHS`."""
    base: str | None = None
    """Base model (`loraudit.base.source.find_base`); None: the base that the LoRA was made for."""
    attacks: tuple[str, ...] = field(default_factory=lambda: names_at("standard"))
    """Names from the table of attacks (`loraudit.attacks.table`)."""
    named: bool = False
    """True if the attacks were asked for one by one, so that an attack that cannot run is a gap."""
    encoder: str | None = None
    """Name or folder of the encoder; None: the encoder that ships for the base."""
    calibration: str | None = None
    """Name or folder of the calibration data; None: the data that ship for the base."""
    pictures: bool = True
    """False if no picture may be drawn, whatever else is asked for."""
    reference: Path | None = None
    """Folder with photos of the person; None: no photos."""
    samples: int = BUDGETS["standard"]
    """Pictures per attack at most, by the tuned model and by each control."""
    quick: bool = False
    """True for the least that can be a finding: a short search, and controls for one aim."""
    steps: int | None = None
    """Sampling steps per picture; None: as many as the base needs."""
    seed: int = 0
    """Seed of the first picture; the seeds of the others follow."""
    device: str | None = None
    """Device `cpu` or `cuda`; None: `cuda` where there is a GPU."""
    dtype: str = "auto"
    """Type of the base's numbers, `float32`, `float16` or `bfloat16`; `auto`: by the device."""
    offline: bool = False
    """True if nothing may be downloaded."""
    exclude: tuple[str, ...] = ()
    """Patterns of files that are not scanned (`loraudit.audit.exclude`)."""
    save_images: Path | None = None
    """New or empty folder for pictures, with several targets for a folder each; None: no pictures kept."""
    sheet: Literal["pixelated", "clear"] | None = None
    """Pictures in reports, with faces pixelated or clear; None: no pictures."""

"""What `loraudit scan` was asked for, apart from its targets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from loraudit.attacks.table import names_at

__all__ = ["BUDGETS", "DEPTHS", "Request"]

BUDGETS: Final[Mapping[str, int]] = {"quick": 8, "standard": 16, "deep": 32}
"""Names of `--budget`, with the pictures that an attack makes at most."""

DEPTHS: Final = ("metadata", "weights", "attack")
"""Names of `--depth`, each a step further than the one before."""


@dataclass(frozen=True)
class Request:
    """What was asked for."""

    depth: str = "attack"
    """One of `DEPTHS`."""
    base: str | None = None
    """A name or a folder; None: the base that the LoRA was made for."""
    attacks: tuple[str, ...] = field(default_factory=lambda: names_at("standard"))
    """Names of the table of attacks (`loraudit.attacks.table`)."""
    named: bool = False
    """Whether the attacks were asked for one by one: then one that cannot run is missing from the audit."""
    encoder: str | None = None
    """A name or a folder; None: the one that ships for the base."""
    reference: Path | None = None
    """A folder with photos of the person."""
    samples: int = BUDGETS["standard"]
    """Pictures per attack at most, by the tuned model and by each control."""
    steps: int | None = None
    """None: what the base needs."""
    seed: int = 0
    """Of the first picture; the others follow."""
    device: str | None = None
    """`cpu` or `cuda`; None: cuda where there is one."""
    offline: bool = False
    save_images: Path | None = None
    """A new or empty folder; with several targets, one folder in it for each."""
    sheet: Literal["pixelated", "clear"] | None = None
    """Whether reports hold pictures, and whether faces can be made out; None: no pictures."""

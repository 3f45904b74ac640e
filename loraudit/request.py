"""What `loraudit scan` was asked for, apart from its targets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["ATTACKS", "DEPTHS", "Request"]

DEPTHS: Final = ("metadata", "weights", "attack")
"""Names of `--depth`, each a step further than the one before."""

ATTACKS: Final = ("paper", "prompts")
"""Names of `--attack`, in the order they run."""


@dataclass(frozen=True)
class Request:
    """What was asked for."""

    depth: str = "attack"
    """One of `DEPTHS`."""
    base: str | None = None
    """A name or a folder; None: the base that the LoRA was made for."""
    attacks: tuple[str, ...] = ATTACKS
    encoder: str | None = None
    """A name or a folder; None: the one that ships for the base."""
    reference: Path | None = None
    """A folder with photos of the person."""
    samples: int = 16
    """Pictures per attack, with the LoRA and without it each."""
    steps: int = 25
    seed: int = 0
    """Of the first picture; the others follow."""
    device: str | None = None
    """`cpu` or `cuda`; None: cuda where there is one."""
    offline: bool = False
    save_images: Path | None = None
    """A new or empty folder; with several targets, one folder in it for each."""

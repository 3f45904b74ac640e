"""Export of a LoRA that was read, in a layout that other programs load."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from loraudit.errors import LorauditError, NotScannable
from loraudit.lora.matrices import Factors, LoRA, Site
from loraudit.lora.write import write_diffusers, write_kohya, write_peft
from loraudit.text import clean

__all__ = ["LAYOUTS", "export_lora"]

_Writer: TypeAlias = Callable[[Mapping[Site, Factors], Path], None]

LAYOUTS: Final[Mapping[str, _Writer]] = {
    "diffusers": write_diffusers,
    "kohya": write_kohya,
    "peft": write_peft,
}
"""Writer of each layout that `export_lora` knows: of a file, for peft of a folder."""


def export_lora(lora: LoRA, layout: str, path: Path) -> None:
    """Write every module of `lora` to the new file (peft: folder) `path` in `layout`, a key of `LAYOUTS`.

    The factors are those that were read, in float32, with the scale folded in. Unread tensors are not
    written. Metadata are not either: they may name people, and may state a scale that no longer holds.

    Raises `NotScannable` if no module was read, `LorauditError` if `path` is there already (so never over the
    source) or cannot be written. Nothing is left behind then.
    """
    if not lora.factors:
        raise NotScannable(f"{lora.file.name} holds no module that was read: {lora.unread[0].why}")
    shown = clean(str(path), 300)
    if os.path.lexists(path):
        raise LorauditError(f"{shown} exists already", "remove it, or choose another path with -o")
    if not path.absolute().parent.is_dir():
        raise LorauditError(
            f"there is no folder for {shown}", "make it first, or choose another path with -o"
        )
    LAYOUTS[layout](lora.factors, path)

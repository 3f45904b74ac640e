"""Checks of a fine-tuning's output and targets that need neither torch nor the base's weights."""

import json
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from loraudit.errors import LorauditError
from loraudit.files import read_within
from loraudit.lora.layouts.topology import SD1_FAMILY, UNetShape, topologies
from loraudit.text import clean

__all__ = ["check_output", "check_targets"]

_LARGEST_CONFIG: Final = 1_000_000
"""Limit in bytes; that of SD 1.x has 1 kB."""


def check_targets(base: str, targets: Sequence[str]) -> None:
    """Raise `LorauditError` if one of `targets` is the end of no UNet module's name in `base`.

    A folder without the configuration of an SD 1.x UNet passes: the load of the base says what is wrong.
    """
    paths = _unet_modules(base)
    if paths is None:
        return
    ends = sorted({end for path in paths for end in _ends(path)})
    for target in targets:
        if target not in ends:
            near = get_close_matches(target, ends, 3) or ["to_q", "to_k", "to_v", "to_out.0"]
            raise LorauditError(
                f"the base has no module called {clean(target)}",
                f"name other targets, such as {', '.join(near)}",
            )


def check_output(output: Path, layout: str, force: bool) -> None:
    """Raise `LorauditError` if `output` cannot be written, before hours of training."""
    shown = clean(str(output), 300)
    if not output.absolute().parent.is_dir():
        raise LorauditError(
            f"there is no folder for {shown}", "make the folder first, or choose another path with -o"
        )
    if output.exists() and output.is_dir() != (layout == "peft"):
        raise LorauditError(
            f"{shown} is a {'folder' if output.is_dir() else 'file'}", "choose another path with -o"
        )
    if output.exists() and not force:
        raise LorauditError(f"{shown} exists already", "choose another path with -o, or give --force")


def _unet_modules(base: str) -> list[str] | None:
    """List the dotted paths of the UNet's modules; None for a folder without a readable configuration."""
    folder = Path(base)
    if folder.is_dir():
        try:
            config = json.loads(read_within(folder / "unet" / "config.json", _LARGEST_CONFIG))
            return [path for path, _ in UNetShape.from_config(config).modules()]
        except (OSError, ValueError, KeyError, TypeError):
            return None
    known = {one.base: one for one in topologies()}
    # Bases on the Hub are SD 1.x, whatever their names.
    found = known.get(base) or next(one for one in topologies() if one.family == SD1_FAMILY)
    return [site.removeprefix("unet.") for site in found.shapes if site.startswith("unet.")]


def _ends(path: str) -> list[str]:
    words = path.split(".")
    return [".".join(words[start:]) for start in range(len(words))]

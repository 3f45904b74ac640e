"""Lists of targets: the file of `--targets-from`, a target a line."""

import os
import sys
from pathlib import Path
from typing import Final

from loraudit.errors import LorauditError
from loraudit.files import read_bounded
from loraudit.text import clean

__all__ = ["read_targets"]

_MOST: Final = 10_000_000
"""Size of a list at most, in bytes."""


def read_targets(path: Path) -> list[str]:
    """Read the targets in the file at `path`, a line each; `-` is stdin.

    Blank lines and lines that begin with `#` are left out. Raises `LorauditError` if the file cannot be read,
    or holds what can be no path.
    """
    if str(path) == "-":
        data = sys.stdin.buffer.read(_MOST + 1)
        if len(data) > _MOST:
            raise LorauditError("the list of targets on stdin is too long", "scan a folder instead")
    else:
        data = read_bounded(path, "the list of targets", _MOST)
    if b"\0" in data:
        raise LorauditError(
            f"the list of targets {clean(str(path), 300)} holds NUL characters",
            "write one target a line, as UTF-8",
        )
    lines = (line.removesuffix("\r") for line in os.fsdecode(data).split("\n"))
    return [line for line in lines if line.strip() and not line.startswith("#")]

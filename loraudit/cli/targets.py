"""Targets of a scan: those named, those that a file of `--targets-from` lists, or the bundled example."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from loraudit.errors import LorauditError
from loraudit.files import read_bounded
from loraudit.text import clean

__all__ = ["find_targets", "read_targets"]

_MOST: Final = 10_000_000
"""Size of a list at most, in bytes."""


def find_targets(named: Sequence[str], listed: Path | None, example: bool) -> tuple[list[str], Path | None]:
    """Return the targets, and of the bundled LoRA the photos of its person.

    Raises `LorauditError` if there is no target, or another than the `example`.
    """
    targets = [*named, *([] if listed is None else read_targets(listed))]
    if example:
        if targets:
            raise LorauditError("--example has a LoRA of its own", "leave the other targets or --example out")
        from loraudit.cards import models_dir

        folder = models_dir() / "examples"
        return [str(folder / "example.safetensors")], folder / "photos"
    if not targets:
        raise LorauditError("no LoRA to scan", "name files or folders, or try: loraudit scan --example")
    return targets, None


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

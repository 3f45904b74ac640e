"""The streams of the command line: a command's result on stdout or in a file, all else on stderr."""

import os
import shutil
import sys
from pathlib import Path
from typing import Final

__all__ = ["colour", "emit", "say", "say_error", "width"]

PIPE_WIDTH: Final = 100
"""Columns of what no terminal shows."""


def emit(text: str, output: Path | None, mode: int = 0o666) -> None:
    """The command's result to stdout, or whole and at once to `output` with permissions `mode`."""
    if output is None:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        from loraudit.lora.atomic import write_atomic

        write_atomic(output, text.encode(), mode)


def colour(output: Path | None) -> bool:
    """Whether what goes to `output`, or to stdout if None, may hold ANSI codes."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return output is None and sys.stdout.isatty() and not plain


def width(output: Path | None) -> int:
    """Columns of what goes to `output`, or to stdout if None."""
    on_terminal = output is None and sys.stdout.isatty()
    return shutil.get_terminal_size().columns if on_terminal else PIPE_WIDTH


def say(line: str) -> None:
    """One line to stderr."""
    sys.stderr.write(f"{line}\n")


def say_error(message: str, hint: str) -> None:
    """What is wrong, and what to do, to stderr."""
    sys.stderr.write(f"loraudit: error: {message}\n" + (f"  {hint}\n" if hint else ""))

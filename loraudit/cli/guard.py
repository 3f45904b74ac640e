"""A stdout for the report alone: what libraries in other languages write to it goes to stderr."""

import os
import sys
from typing import Final

__all__ = ["guard_stdout"]

_STDOUT: Final = 1
_STDERR: Final = 2


def guard_stdout() -> None:
    """Give Python's stdout a file descriptor of its own, and let descriptor 1 lead to stderr from now on.

    LAPACK prints to descriptor 1 what it thinks of infinite numbers, some of it when the process ends. In the
    midst of JSON such a line makes the report unreadable. Nothing changes if stdout is no plain descriptor 1,
    as in a notebook or a test, or if either stream is closed.
    """
    try:
        if sys.stdout.fileno() != _STDOUT:
            return
        sys.stdout.flush()
        os.fstat(_STDERR)
        kept = os.dup(_STDOUT)
    except (AttributeError, OSError, ValueError):
        return
    stream = os.fdopen(kept, "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors)
    if stream.isatty() or sys.stdout.line_buffering:
        stream.reconfigure(line_buffering=True)
    os.dup2(_STDERR, _STDOUT)
    # `shutil.get_terminal_size` asks the second.
    sys.stdout = sys.__stdout__ = stream  # type: ignore[misc]

"""The streams of the command line: a command's result on stdout or in a file, all else on stderr."""

import codecs
import io
import os
import shutil
import sys
from pathlib import Path
from typing import Final, TextIO

from loraudit.errors import LorauditError

__all__ = ["colour", "drop_stdout", "emit", "say", "say_error", "spell_out", "width"]

PIPE_WIDTH: Final = 100
"""Columns of what no terminal shows."""

_SPELT: Final = str.maketrans(
    dict.fromkeys("─━═", "-") | dict.fromkeys("│┃║", "|") | dict.fromkeys("┏┓┗┛┌┐└┘", "+") | {"…": "~"}
)


def emit(text: str, output: Path | None, mode: int = 0o666) -> None:
    """The command's result to stdout, or whole and at once to `output` with permissions `mode`.

    Raises `LorauditError` if that fails; a reader of stdout that has seen enough, as `head` has, is no
    failure.
    """
    if output is None:
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except BrokenPipeError:
            _give_up(sys.stdout)
        except OSError as error:
            _give_up(sys.stdout)
            raise LorauditError(
                f"cannot write to standard output: {error.strerror}", "name a file with -o"
            ) from None
    else:
        from loraudit.files import write_atomic

        write_atomic(output, text.encode(), mode)


def colour(output: Path | None) -> bool:
    """Whether what goes to `output`, or to stdout if None, may hold ANSI codes."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return output is None and sys.stdout.isatty() and not plain


def width(output: Path | None) -> int:
    """Columns of what goes to `output`, or to stdout if None."""
    on_terminal = output is None and sys.stdout.isatty()
    return shutil.get_terminal_size().columns if on_terminal else PIPE_WIDTH


def drop_stdout() -> None:
    """What is still to go to stdout goes nowhere: the disk behind it is full."""
    _give_up(sys.stdout)


def say(line: str) -> None:
    """One line to stderr, if anybody still reads that."""
    try:
        sys.stderr.write(f"{line}\n")
    except OSError:
        _give_up(sys.stderr)


def say_error(message: str, hint: str) -> None:
    """What is wrong, and what to do, to stderr."""
    say(f"loraudit: error: {message}" + (f"\n  {hint}" if hint else ""))


def spell_out() -> None:
    """From now on stdout and stderr spell a character that their encoding lacks, rather than fail on it."""
    codecs.register_error("loraudit", _spell)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="loraudit")


def _spell(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lines = error.object[error.start : error.end].translate(_SPELT)
    return (lines, error.end) if lines.isascii() else codecs.backslashreplace_errors(error)


def _give_up(stream: TextIO) -> None:
    """Let what is left in the buffer of `stream` go nowhere: Python would complain about it at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)

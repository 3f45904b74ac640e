"""The streams of the command line: a command's result on stdout or in a file, everything else on stderr."""

import codecs
import io
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TextIO

from loraudit.errors import LorauditError

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = [
    "colour",
    "drop_stdout",
    "emit",
    "hush",
    "open_streams",
    "render",
    "say",
    "say_error",
    "shows_progress",
    "spell_out",
    "talk",
    "width",
    "write_error",
]

PIPE_WIDTH: Final = 100
"""Columns of a text for a file or a pipe."""

_SPELT: Final = str.maketrans(
    dict.fromkeys("─━═", "-") | dict.fromkeys("│┃║", "|") | dict.fromkeys("┏┓┗┛┌┐└┘", "+") | {"…": "~"}
)


_HUSHED: Final[set[str]] = set()
"""Kinds of lines that the running command keeps from stderr."""


def emit(text: str, output: Path | None, mode: int = 0o666) -> None:
    """Write the command's result to stdout, or whole and at once to `output` with permissions `mode`.

    Raises `LorauditError` if the write fails. A reader of stdout that stops early, as `head` does, is no
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
    """Tell whether the text for `output`, stdout if None, gets ANSI codes.

    A file never gets ANSI codes. `NO_COLOR` forbids ANSI codes, `FORCE_COLOR` brings them into a pipe; else
    every terminal but a dumb one gets them.
    """
    if output is not None or os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (sys.stdout.isatty() and os.environ.get("TERM") != "dumb")


def width(output: Path | None) -> int:
    """Count the columns of the text for `output`, stdout if None."""
    on_terminal = output is None and sys.stdout.isatty()
    return shutil.get_terminal_size().columns if on_terminal else PIPE_WIDTH


def render(shown: "RenderableType", *, width: int, colour: bool = False) -> str:
    """Lay out tables and texts in at most `width` columns; `colour` adds ANSI codes."""
    from rich.console import Console

    console = Console(
        file=io.StringIO(), width=width, force_terminal=colour, no_color=not colour, highlight=False
    )
    with console.capture() as capture:
        console.print(shown)
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def open_streams() -> None:
    """Put something where stdin, stdout or stderr is closed, which a file opened later would take.

    A closed stderr is no failure. What is written to a closed stdout is one: a `LorauditError`.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    # Python leaves None in place of a stream that was closed at its start.
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = _Closed()
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


class _Closed(io.TextIOBase, TextIO):
    """A stdout that was closed before the program began."""

    def write(self, _text: str) -> int:
        raise LorauditError("cannot write to standard output: it is closed", "name a file with -o")

    def fileno(self) -> int:
        return 1


def drop_stdout() -> None:
    """Discard the rest of stdout: the disk behind stdout is full."""
    _give_up(sys.stdout)


def talk() -> None:
    """Let chatter and progress through to stderr, as at the start of a program."""
    _HUSHED.clear()


def hush(what: Literal["chatter", "progress"]) -> None:
    """Keep `what` from stderr until the end of the command: `--quiet` and `--no-progress`."""
    _HUSHED.add(what)


def shows_progress() -> bool:
    """Tell whether stderr may show the progress of a job."""
    return not _HUSHED


def say(line: str) -> None:
    """Write one line of chatter to stderr."""
    if "chatter" not in _HUSHED:
        write_error(line)


def write_error(line: str) -> None:
    """Write one line to stderr, `--quiet` or not; a closed stderr is no failure."""
    try:
        sys.stderr.write(f"{line}\n")
    except OSError:
        _give_up(sys.stderr)


def say_error(message: str, hint: str) -> None:
    """Write an error to stderr, and below the error the `hint` what to do."""
    write_error(f"loraudit: error: {message}" + (f"\n  {hint}" if hint else ""))


def spell_out() -> None:
    """Make stdout and stderr spell out a character that their encoding lacks, instead of failing."""
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
    """Discard the rest of the buffer of `stream`, which Python would complain about at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)

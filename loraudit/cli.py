"""The command line: which commands there are, and what becomes of errors.

The commands are in `loraudit.commands`. What a command reports goes to stdout or `-o`, everything else to
stderr.
"""

import atexit
import errno
import gc
import traceback
from typing import Annotated, Final

import typer

from loraudit import __version__
from loraudit.console import drop_stdout, say, say_error, spell_out
from loraudit.errors import LorauditError
from loraudit.interrupt import interruptible
from loraudit.quick import LazyGroup

__all__ = ["app", "main"]

INTERRUPTED: Final = 130


class Commands(LazyGroup):
    """Those of loraudit, in the order of the help."""

    package = "loraudit.commands"
    names = (
        "inspect", "scan", "report", "scrub", "calibrate", "bench", "finetune", "train-encoder", "rules",
        "doctor", "cache", "completion",
    )  # fmt: skip


app = typer.Typer(
    name="loraudit",
    cls=Commands,
    help="Find out whom a LoRA file gives away, before you share it.",
    epilog=(
        "Exit codes: 0 done, 1 findings at or above --fail-on, 2 usage or internal error, 3 nothing that can "
        "be scanned, 4 incomplete or inconclusive, 130 interrupted."
    ),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line and exit; errors become one line on stderr."""
    # As it ends the interpreter looks for garbage among all there is, for a tenth of a short command's time.
    atexit.register(gc.freeze)
    spell_out()
    try:
        with interruptible():
            app()
    except LorauditError as error:
        _fail(str(error), error.hint, error.exit_code)
    except MemoryError:
        _fail("not enough memory", "close other programs, or use a machine with more", 2)
    except KeyboardInterrupt:
        _fail("interrupted", "", INTERRUPTED)
    except SystemExit as stop:
        # Typer answers Ctrl-C inside a command with this code and no word.
        if stop.code == INTERRUPTED:
            _fail("interrupted", "", INTERRUPTED)
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            drop_stdout()
            _fail("no space left on the disk", "make room, or write elsewhere", 2)
        # Python's own exit code for this is 1, which here means "findings". What it says may be a file's.
        from loraudit.lora.text import clean

        for line in traceback.format_exc().splitlines():
            say(clean(line, 300))
        _fail(f"internal error ({type(error).__name__})", "this is a bug in loraudit; please report it", 2)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"loraudit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    pass


def _fail(message: str, hint: str, code: int) -> None:
    say_error(message, hint)
    raise SystemExit(code)

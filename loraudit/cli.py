"""The command line: which commands there are.

The commands are in `loraudit.commands`, what becomes of errors in `loraudit.failing`. What a command reports
goes to stdout or `-o`, everything else to stderr.
"""

import atexit
import gc
from typing import Annotated

import typer

from loraudit.failing import in_one_line
from loraudit.quick import LazyGroup
from loraudit.version import __version__

__all__ = ["app", "main"]


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
    in_one_line(app)


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

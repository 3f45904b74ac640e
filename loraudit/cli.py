"""The command line: parse, wire, render, exit code.

Heavy imports stay inside the commands, so that `--help` and `inspect` load neither torch nor diffusers. What
a command reports goes to stdout or `-o`, everything else to stderr.
"""

import os
import shutil
import sys
import traceback
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from loraudit import __version__
from loraudit.errors import LorauditError

__all__ = ["app", "main"]

INTERRUPTED: Final = 130
PIPE_WIDTH: Final = 100

app = typer.Typer(
    name="loraudit",
    help="Find out whom a LoRA file gives away, before you share it.",
    epilog="Exit codes: 0 done, 2 usage or internal error, 3 nothing that can be scanned, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class TextOrJson(StrEnum):
    """The formats of commands that report facts rather than findings."""

    text = "text"
    json = "json"


def main() -> None:
    """Run the command line and exit; errors become one line on stderr."""
    try:
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
        # Python's own exit code for this is 1, which here means "findings".
        traceback.print_exc()
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


@app.command()
def inspect(
    target: Annotated[
        Path, typer.Argument(help="A LoRA file, a peft folder, or a folder with one LoRA file.")
    ],
    format: Annotated[TextOrJson, typer.Option("--format", "-f", help="What to print.")] = TextOrJson.text,  # noqa: A002
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")] = None,
) -> None:
    """Say what a LoRA file is and what could not be read."""
    from loraudit.inspection import inspection_json, inspection_text
    from loraudit.lora import load_lora

    lora = load_lora(target)
    if format is TextOrJson.json:
        _emit(inspection_json(lora), output)
    else:
        _emit(inspection_text(lora, width=_width(output), colour=_colour(output)), output)


def _emit(text: str, output: Path | None, mode: int = 0o666) -> None:
    """The command's result to stdout, or whole and at once to `output` with permissions `mode`."""
    if output is None:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        from loraudit.lora.write import write_atomic

        write_atomic(output, text.encode(), mode)


def _colour(output: Path | None) -> bool:
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return output is None and sys.stdout.isatty() and not plain


def _width(output: Path | None) -> int:
    on_terminal = output is None and sys.stdout.isatty()
    return shutil.get_terminal_size().columns if on_terminal else PIPE_WIDTH


def _fail(message: str, hint: str, code: int) -> None:
    sys.stderr.write(f"loraudit: error: {message}\n" + (f"  {hint}\n" if hint else ""))
    raise SystemExit(code)

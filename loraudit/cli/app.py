"""The list of commands, in the groups of `loraudit --help`."""

from typing import Annotated, Final

import typer

from loraudit.cli.quick import LazyGroup
from loraudit.version import __version__

__all__ = ["COMPLETING", "Commands", "app"]

COMPLETING: Final = "_LORAUDIT_COMPLETE"
"""Environment variable by which a shell's script asks for completions."""


class Commands(LazyGroup):
    """The commands of loraudit."""

    package = "loraudit.cli"
    groups = {  # noqa: RUF012  # a constant of the base class
        "Audit": ("scan", "inspect", "report", "scrub"),
        "Train and measure": ("finetune", "train-encoder", "calibrate", "bench"),
        "Help and upkeep": ("rules", "doctor", "cache", "completion"),
    }


app = typer.Typer(
    name="loraudit",
    cls=Commands,
    help="Check what a LoRA file reveals about the people it was trained on, before you share it.",
    epilog=(
        "\b\n"
        "Examples:\n"
        "  loraudit scan --example                     audit the bundled LoRA\n"
        "  loraudit scan lora.safetensors --reference photos/\n"
        "  loraudit scan loras/ --depth metadata       seconds, needs no torch\n"
        "\n"
        "Exit codes: 0 done, 1 findings at or above --fail-on, 2 usage or internal error, 3 nothing that can "
        "be scanned, 4 incomplete or inconclusive, 130 interrupted."
    ),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={
        "help_option_names": ["-h", "--help"],
        # The spelling of releases before 0.2, hidden.
        "token_normalize_func": lambda token: "output" if token == "out" else token,  # noqa: S105
    },
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"loraudit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass

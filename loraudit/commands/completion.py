"""The command `completion`."""

from enum import StrEnum
from typing import Annotated

import typer

from loraudit.console import emit

__all__ = ["completion"]


class Shell(StrEnum):
    """What the script is for."""

    bash = "bash"
    zsh = "zsh"


def completion(shell: Annotated[Shell, typer.Argument(help="What the script is for.")]) -> None:
    """Print a script that completes commands and options in a shell."""
    from loraudit.cli import Commands
    from loraudit.completing import SHELLS, read_commands

    emit(SHELLS[shell.value](read_commands(Commands.package, Commands.names)), None)

"""The command `completion`: Typer's own script for a shell, which asks loraudit at every Tab."""

import os
from enum import StrEnum
from typing import Annotated, Final

import typer

from loraudit.cli.app import COMPLETING
from loraudit.cli.console import emit

__all__ = ["completion", "prepare"]

EXAMPLES: Final = ('eval "$(loraudit completion bash)"', "loraudit completion fish | source")


class Shell(StrEnum):
    """The shells that Typer knows."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"
    powershell = "powershell"


def completion(shell: Annotated[Shell, typer.Argument(help="Shell that will run the script.")]) -> None:
    """Print a script that completes commands in a shell.

    The script completes commands, options and their values; file names are left to the shell.
    """
    from typer._completion_shared import get_completion_script

    script = get_completion_script(prog_name="loraudit", complete_var=COMPLETING, shell=shell.value)
    emit(f"{script}\n", None)


def prepare() -> None:
    """Get Typer's classes ready to answer a script, and undo how bash splits `--depth=me`."""
    from typer._completion_classes import completion_init

    completion_init()
    words = os.environ.get("COMP_WORDS", "").split("\n")[: int(os.environ.get("COMP_CWORD", "0")) + 1]
    # bash hands over three words, which Typer's parser does not join again.
    kept = [word for word in words[:-1] if word != "="] + ["" if words[-1] == "=" else words[-1]]
    os.environ["COMP_WORDS"], os.environ["COMP_CWORD"] = "\n".join(kept), str(len(kept) - 1)

"""The command `cache`."""

import sys
from enum import StrEnum
from typing import Annotated

import typer

from loraudit.console import emit, say, width
from loraudit.errors import LorauditError

__all__ = ["cache"]


class CacheAction(StrEnum):
    """What to do with it."""

    info = "info"
    clear = "clear"


def cache(
    action: Annotated[
        CacheAction, typer.Argument(help="Tell what is kept, or delete it.")
    ] = CacheAction.info,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
) -> None:
    """Tell or clear what is kept of the base models and scorers that scans fetch."""
    from loraudit.caching import cache_text, clear, kept

    models = kept()
    emit(cache_text(models, width=width(None)), None)
    if action is CacheAction.info or not models:
        return
    if not yes:
        if not sys.stdin.isatty():
            raise LorauditError("nobody is there to ask", "delete without asking with --yes")
        try:
            agreed = typer.confirm("Delete these?", err=True)
        except typer.Abort:
            agreed = False
        if not agreed:
            say("nothing was deleted")
            return
    clear(models)
    say(f"deleted: {', '.join(one.name for one in models)}")

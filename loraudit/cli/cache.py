"""The command `cache`."""

import sys
from enum import StrEnum
from typing import Annotated, Final

import typer

from loraudit.cli.console import emit, say, width
from loraudit.errors import LorauditError

__all__ = ["cache"]

EXAMPLES: Final = ("loraudit cache", "loraudit cache clear --yes")


class CacheAction(StrEnum):
    """The actions on the cache."""

    info = "info"
    clear = "clear"


def cache(
    action: Annotated[
        CacheAction, typer.Argument(help="Show the models, or delete them.")
    ] = CacheAction.info,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
) -> None:
    """Show or clear downloaded models."""
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

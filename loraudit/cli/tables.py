"""Rich tables as plain text.

A string in a table is shown as it stands: markup, emoji and highlighting are off.
"""

from collections.abc import Iterable
from io import StringIO
from typing import Final

from rich.console import Console, RenderableType
from rich.table import Table

__all__ = ["columns", "hanging", "plain_text"]

_NARROWEST: Final = 60
"""Columns that a table gets on any terminal."""


def columns(*widths: int) -> Table:
    """Make a table without a frame; `widths` are the least characters of each column, 0 for free text."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for width in widths:
        # A column with a width holds names, which stay whole.
        table.add_column(min_width=width, no_wrap=width > 0)
    return table


def hanging(mark: str, text: str) -> Table:
    """Lay out `text` with `mark` before its first line, and the other lines indented as far."""
    table = Table.grid()
    table.add_row(mark, text)
    return table


def plain_text(parts: Iterable[RenderableType], *, width: int) -> str:
    """Lay out `parts` below each other in at most `width` columns, at least 60, without ANSI codes."""
    console = Console(
        file=StringIO(),
        width=max(_NARROWEST, width),
        force_terminal=False,
        force_jupyter=False,
        color_system=None,
        legacy_windows=False,
        markup=False,
        emoji=False,
        highlight=False,
    )
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())

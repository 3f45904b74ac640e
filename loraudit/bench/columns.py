"""The tables of `loraudit bench` as plain text."""

from collections.abc import Sequence
from io import StringIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from loraudit.bench.panel import Interval, Row

__all__ = ["attack_columns", "in_columns"]


def in_columns(heading: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Align the first column left and the others right, two spaces between; no cell is folded or cut."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for place in range(len(heading)):
        table.add_column(justify="right" if place else "left", no_wrap=True)
    for line in (heading, *lines):
        table.add_row(*map(Text, line))
    widest = sum(max(map(len, cells)) + 2 for cells in zip(heading, *lines, strict=True))
    console = Console(file=StringIO(), width=widest, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(table)
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def attack_columns(rows: Sequence[Row]) -> str:
    """Lay out the shares of `bench attacks` with their 95 % intervals."""

    def share(value: Interval) -> str:
        return f"{value.mean:.3f} [{value.low:.2f}, {value.high:.2f}]"

    heading = (
        "condition",
        "role",
        "accepted at FAR 1e-3",
        "behind the best",
        "rank-1",
        "consensus rank-1",
    )
    lines = [
        (
            row.condition,
            row.role,
            *map(share, (row.accepted, row.behind, row.rank1, row.consensus_rank1)),
        )
        for row in rows
    ]
    return in_columns(heading, lines)

"""Tables of the benches as plain text."""

from collections.abc import Sequence

from loraudit.bench.panel import Interval, Row

__all__ = ["attack_columns", "in_columns"]


def in_columns(heading: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Align the first column left and the others right, two spaces between."""
    widths = [max(len(line[i]) for line in (heading, *lines)) for i in range(len(heading))]
    return "".join(
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        + "\n"
        for line in (heading, *lines)
    )


def attack_columns(rows: Sequence[Row]) -> str:
    """Show the shares of `bench attacks` with their 95 % intervals."""

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

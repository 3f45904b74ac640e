"""The record of `loraudit bench verdict` as tables: plain text for a terminal, Markdown for a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from loraudit.bench.columns import in_columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["LEVELS", "SEVERAL", "SHOWN", "verdict_columns", "verdict_markdown"]

_SIDES: Final = ("leaking", "harmless")
SHOWN: Final = "shown by the secret prompt"
SEVERAL: Final = "taken for several LoRAs merged"
LEVELS: Final = "levels, "
"""Prefix of the names of tables of levels."""


def verdict_columns(record: dict[str, Any]) -> str:
    """Lay out areas and levels as plain text."""
    text = in_columns(("score", "AUROC"), _areas(record))
    if shown := record.get(SHOWN):
        text += f"\n{_share(shown['loras'])} of the leaking LoRAs are {SHOWN}\n"
        text += in_columns(("score", "AUROC"), _areas(shown))
    for name, rows in _levels(record):
        lines = [(level, *(_share(side[level]) for side in rows.values())) for level in rows[_SIDES[0]]]
        text += f"\n{name}\n" + in_columns(("at or above", *rows), lines)
    return text


def verdict_markdown(record: dict[str, Any]) -> str:
    """Write the whole record as Markdown: areas, levels, p-values, early stopping, curve and zoos."""
    parts = [_table(("score", "AUROC [95 %]"), _areas(record))]
    if shown := record.get(SHOWN):
        parts += [
            f"Of the leaking LoRAs whose own secret prompt shows the person, {_share(shown['loras'])}, "
            f"{_share(shown['high or above'])} of them at `high` or above:",
            _table(("score", "AUROC [95 %]"), _areas(shown)),
        ]
    for name, rows in _levels(record):
        parts += [
            f"Levels, {name}:",
            _table(
                ("at or above", "leaking", "harmless (false alarms)"),
                ((level, *(_share(rows[side][level]) for side in _SIDES)) for level in rows[_SIDES[0]]),
            ),
        ]
    if "p-values" in record:
        rows = record["p-values"]
        parts += [
            "Conformal p-values:",
            _table(
                ("p at most", *_SIDES),
                ((level, *(_share(rows[side][level]) for side in _SIDES)) for level in rows[_SIDES[0]]),
            ),
        ]
    if SEVERAL in record:
        rows = record[SEVERAL]
        parts += [
            f"By kind, how many are {SEVERAL}:",
            _table(("kind", SEVERAL), ((kind, _share(found)) for kind, found in rows.items())),
        ]
    parts += [
        "Stopping early, replayed picture by picture:",
        _table(
            ("", "median share of pictures", "same level", "same answer to `--fail-on high`"),
            (
                (
                    name,
                    f"{row['median share of pictures']:.2f}",
                    _share(row["same level"]),
                    _share(row["same answer to --fail-on high"]),
                )
                for name, row in record["stopping early"].items()
            ),
        ),
    ]
    if curve := record.get("curve"):
        names = [name for name in curve[0] if name not in ("steps", "loras")]
        parts += [
            f"Over the steps of fine-tuning, mean scores of {curve[0]['loras']} LoRAs:",
            _table(
                ("steps", *names), ((str(row["steps"]), *(f"{row[n]:.3f}" for n in names)) for row in curve)
            ),
        ]
    parts.append(_zoos(record["by recipe"]))
    return "\n\n".join(parts) + "\n"


def _areas(record: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, f"{area['value']:.4f} [{area['low']:.4f}, {area['high']:.4f}]")
        for name, area in record["auroc"].items()
    ]


def _levels(record: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(name.removeprefix(LEVELS), rows) for name, rows in record.items() if name.startswith(LEVELS)]


def _zoos(rows: Sequence[dict[str, Any]]) -> str:
    names = ("rank", "modules", "text encoder", "prior preservation", "steps", "pictures")
    return _table(
        ("zoo", "kinds", "LoRAs", *names, "secret prompt shows", "high or above", "AUROC"),
        (
            (
                row["zoo"],
                ", ".join(row["kinds"]),
                str(row["loras"]),
                *(_plain(row[name]) for name in names),
                "{:.0f} of {:.0f}".format(*row["shown"]) if "shown" in row else "",
                _share(row["high or above"]),
                f"{row['auroc']:.3f}" if "auroc" in row else "",
            )
            for row in rows
        ),
    )


def _plain(value: bool | int) -> str:
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


def _share(found: Sequence[float]) -> str:
    """Write `k of n` with its interval."""
    k, n, low, high = found
    return f"{k:.0f} of {n:.0f} [{low:.3f}, {high:.3f}]"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(line)} |" for line in (head, *rows)]
    return "\n".join((lines[0], f"|{'---|' * len(head)}", *lines[1:]))

"""`loraudit inspect`: what a LoRA file is, as text or as JSON, and what an export of it holds."""

import io
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from loraudit.lora import Factors, LoRA, Site
from loraudit.text import clean

__all__ = ["export_line", "inspection_json", "inspection_text"]

SCHEMA: Final = "loraudit.inspect/1"
SHOWN_UNREAD: Final = 10


def inspection_json(lora: LoRA) -> str:
    """The document `loraudit.inspect/1`: every module, and every tensor that was not read."""
    document = {
        "schema": SCHEMA,
        "file": {
            "name": lora.file.name,
            "origin": lora.file.origin,
            "sha256": lora.file.sha256,
            "size_bytes": lora.file.size_bytes,
        },
        "family": lora.family,
        "base": lora.base,
        "dialect": lora.dialect,
        "modules": [
            {
                "site": site,
                "shape": list(factors.shape),
                "rank": factors.rank,
                "scale": factors.scale,
                "frobenius": factors.frobenius(),
            }
            for site, factors in lora.factors.items()
        ],
        "unread": [{"key": item.key, "why": item.why} for item in lora.unread],
    }
    return json.dumps(document, indent=2) + "\n"


def inspection_text(lora: LoRA, *, width: int, colour: bool) -> str:
    """A summary at most `width` characters wide, modules of one kind in one row; `colour` adds ANSI codes."""
    console = Console(
        file=io.StringIO(), width=width, force_terminal=colour, no_color=not colour, highlight=False
    )
    with console.capture() as capture:
        console.print(Group(*_facts(lora), "", _modules(lora), *_unread(lora)))
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def export_line(lora: LoRA, layout: str, path: Path) -> str:
    """In one line, what an export of `lora` to `path` holds and what it does not."""
    modules = "1 module" if len(lora.factors) == 1 else f"{len(lora.factors)} modules"
    line = (
        f"wrote {clean(str(path), 300)}: {modules} in {layout} layout, float32, scale folded in, no metadata"
    )
    if lora.unread:
        first = lora.unread[0]
        more = f" and {len(lora.unread) - 1} more" if len(lora.unread) > 1 else ""
        line += f"; not in it, because unread: {first.key} ({first.why}){more}"
    return line


def _facts(lora: LoRA) -> Iterable[Text]:
    file = lora.file
    # `Text`, never markup: a name may hold square brackets.
    yield Text(file.name, style="bold", overflow="fold")
    base = f"base {lora.base}" if lora.base is not None else "several bases fit"
    yield Text(f"{lora.family} LoRA, {base}, {lora.dialect} layout, rank {_span(lora.rank)}")
    yield Text(f"{file.size_bytes:,} bytes, sha256 {file.sha256}", overflow="fold")
    if file.origin is not None:
        yield Text(file.origin, overflow="fold")


def _modules(lora: LoRA) -> Table:
    kinds: defaultdict[tuple[str, str], list[Factors]] = defaultdict(list)
    for site, factors in lora.factors.items():
        kinds[_kind(site)].append(factors)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("component")
    table.add_column("module")
    for name in ("count", "rank", "scale", "norm of the update"):
        table.add_column(name, justify="right")
    for (component, kind), group in sorted(kinds.items()):
        table.add_row(
            component,
            kind,
            str(len(group)),
            _span([factors.rank for factors in group]),
            _span([factors.scale for factors in group]),
            _span([factors.frobenius() for factors in group]),
        )
    table.add_section()
    table.add_row("", "all", str(len(lora.factors)), "", "", "")
    return table


def _unread(lora: LoRA) -> Iterable[Text]:
    if lora.unread:
        yield Text(f"\n{len(lora.unread)} tensors were not read:", style="yellow")
    for item in lora.unread[:SHOWN_UNREAD]:
        yield Text(f"  {item.key}: {item.why}", overflow="fold")
    if len(lora.unread) > SHOWN_UNREAD:
        yield Text(f"  ... and {len(lora.unread) - SHOWN_UNREAD} more (--format json lists all)")


def _kind(site: Site) -> tuple[str, str]:
    """Component, and the part of the module path that does not depend on where in the network it is."""
    component, _, path = site.partition(".")
    parts = path.split(".")
    last_index = max(
        (at for at, part in enumerate(parts[:-1]) if part.isdigit() and parts[at - 1] != "net"), default=-1
    )
    return component, ".".join(parts[last_index + 1 :])


def _span(values: Iterable[float]) -> str:
    ordered = sorted(values)
    low, high = f"{ordered[0]:.3g}", f"{ordered[-1]:.3g}"
    return low if low == high else f"{low} to {high}"

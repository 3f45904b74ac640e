"""The command `inspect`: a description of a LoRA file, as text or JSON, and an export in another layout."""

import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from loraudit.cli.choices import Layout, OfflineOption, TextOrJson
from loraudit.cli.console import colour, emit, render, say, width
from loraudit.errors import Incomplete, LorauditError
from loraudit.hiding import mask

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from loraudit.lora import Factors, LoRA, Site
    from loraudit.lora.matrices import Unread

__all__ = ["export_line", "inspect", "inspection_json", "inspection_text"]

EXAMPLES: Final = (
    "loraudit inspect lora.safetensors",
    "loraudit inspect lora.safetensors --export kohya -o kohya.safetensors",
)
SCHEMA: Final = "loraudit.inspect/1"
SHOWN_UNREAD: Final = 10


def inspect(
    target: Annotated[
        str,
        typer.Argument(
            help="LoRA file, folder with one, or address on the Hub: hf://ns/name/path.", metavar="target"
        ),
    ],
    offline: OfflineOption = False,
    format: Annotated[  # noqa: A002
        TextOrJson, typer.Option("--format", "-f", help="Format of the output.")
    ] = TextOrJson.text,
    export: Annotated[
        Layout | None,
        typer.Option("--export", help="Layout in which to write the LoRA to --output."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File for the description, or with --export for the LoRA. [default: stdout]",
        ),
    ] = None,
    reveal: Annotated[
        bool,
        typer.Option("--reveal", help="Show words in the names of unread tensors in files and pipes too."),
    ] = False,
) -> None:
    """Show what a LoRA file is and what could not be read.

    The output lists layout, base model, and rank and scale of the modules. Nothing in the file is run, and
    torch is not needed.
    """
    from loraudit.cli.outputs import check_place
    from loraudit.lora import export_lora, load_lora

    if export is not None and output is None:
        raise LorauditError("--export writes a file", "name a new file with -o")
    if export is None and output is not None:
        check_place(output, [target])
    lora = load_lora(target, offline)
    if export is not None and output is not None:
        export_lora(lora, export.value, output)
        say(export_line(lora, export.value, output, reveal=reveal))
        output = None
    if format is TextOrJson.json:
        emit(inspection_json(lora, reveal=reveal), output, 0o600 if reveal else 0o666)
    else:
        shown = inspection_text(
            lora,
            width=width(output),
            colour=colour(output),
            reveal=reveal or (output is None and sys.stdout.isatty()),
        )
        emit(shown, output, 0o600 if reveal else 0o666)
    if export is not None and lora.unread:
        raise typer.Exit(Incomplete.exit_code)


def inspection_json(lora: "LoRA", *, reveal: bool = False) -> str:
    """Write the JSON document `loraudit.inspect/1`: every module, and every tensor that was not read.

    Words of the file in the names of tensors are hidden unless `reveal`.
    """
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
        "unread": [{"key": _name(item, reveal), "why": item.why} for item in lora.unread],
    }
    return json.dumps(document, indent=2) + "\n"


def inspection_text(lora: "LoRA", *, width: int, colour: bool, reveal: bool = False) -> str:
    """Summarize `lora` in at most `width` columns, one row per kind of module; `colour` adds ANSI codes.

    Words of the file in the names of tensors are hidden unless `reveal`.
    """
    from rich.console import Group

    shown = Group(*_facts(lora), "", _modules(lora), *_unread(lora, reveal))
    return render(shown, width=width, colour=colour)


def export_line(lora: "LoRA", layout: str, path: Path, *, reveal: bool = False) -> str:
    """Say in one line what an export of `lora` to `path` holds and what is left out."""
    from loraudit.text import clean

    modules = "1 module" if len(lora.factors) == 1 else f"{len(lora.factors)} modules"
    line = (
        f"wrote {clean(str(path), 300)}: {modules} in {layout} layout, float32, scale folded in, no metadata"
    )
    if lora.unread:
        first = lora.unread[0]
        more = f" and {len(lora.unread) - 1} more" if len(lora.unread) > 1 else ""
        line += f"; not in it, because unread: {_name(first, reveal)} ({first.why}){more}"
    return line


def _facts(lora: "LoRA") -> Iterable["Text"]:
    from rich.text import Text

    file = lora.file
    # `Text`, never markup: a name may hold square brackets.
    yield Text(file.name, style="bold", overflow="fold")
    base = f"base {lora.base}" if lora.base is not None else "several bases fit"
    yield Text(f"{lora.family} LoRA, {base}, {lora.dialect} layout, rank {_span(lora.rank)}")
    yield Text(f"{file.size_bytes:,} bytes, sha256 {file.sha256}", overflow="fold")
    if file.origin is not None:
        yield Text(file.origin, overflow="fold")


def _modules(lora: "LoRA") -> "Table":
    from rich.table import Table

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


def _name(item: "Unread", reveal: bool) -> str:
    return mask(item.key) if reveal else item.shown


def _unread(lora: "LoRA", reveal: bool) -> Iterable["Text"]:
    from rich.text import Text

    if lora.unread:
        yield Text(f"\n{len(lora.unread)} tensors were not read:", style="yellow")
    for item in lora.unread[:SHOWN_UNREAD]:
        yield Text(f"  {_name(item, reveal)}: {item.why}", overflow="fold")
    if len(lora.unread) > SHOWN_UNREAD:
        yield Text(f"  ... and {len(lora.unread) - SHOWN_UNREAD} more (--format json lists all)")


def _kind(site: "Site") -> tuple[str, str]:
    """Split a site into the component and the end of the path, which all modules of one kind share."""
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

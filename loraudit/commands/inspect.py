"""The command `inspect`."""

from pathlib import Path
from typing import Annotated

import typer

from loraudit.commands.choices import TextOrJson
from loraudit.commands.layouts import Layout
from loraudit.console import colour, emit, say, width
from loraudit.errors import Incomplete, LorauditError

__all__ = ["inspect"]


def inspect(
    target: Annotated[
        str, typer.Argument(help="A LoRA file, a folder with one, or one on the Hub: hf://ns/name/path.")
    ],
    offline: Annotated[bool, typer.Option("--offline", help="Never use the network.")] = False,
    format: Annotated[TextOrJson, typer.Option("--format", "-f", help="What to print.")] = TextOrJson.text,  # noqa: A002
    export: Annotated[
        Layout | None,
        typer.Option("--export", help="Write the LoRA to -o in this layout."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write to this file; with --export, the LoRA (peft: a folder)."),
    ] = None,
) -> None:
    """Say what a LoRA file is and what could not be read."""
    from loraudit.inspection import export_line, inspection_json, inspection_text
    from loraudit.lora import export_lora, load_lora

    if export is not None and output is None:
        raise LorauditError("--export writes a file", "name a new one with -o")
    lora = load_lora(target, offline)
    if export is not None and output is not None:
        export_lora(lora, export.value, output)
        say(export_line(lora, export.value, output))
        output = None
    if format is TextOrJson.json:
        emit(inspection_json(lora), output)
    else:
        emit(inspection_text(lora, width=width(output), colour=colour(output)), output)
    if export is not None and lora.unread:
        raise typer.Exit(Incomplete.exit_code)

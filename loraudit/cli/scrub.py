"""The command `scrub`: a copy of a LoRA file without metadata, and a list of what was removed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from loraudit.cli.console import emit, render, width
from loraudit.findings.finding import Finding
from loraudit.metadata.scrub import Scrubbed
from loraudit.text import clean

__all__ = ["scrub", "scrub_text"]

EXAMPLES: Final = ("loraudit scrub lora.safetensors -o scrubbed.safetensors",)
_WEIGHTS: Final = "The person in the weights: no change of the header removes that. Ask with: loraudit scan "


def scrub(
    target: Annotated[Path, typer.Argument(help="Safetensors file to copy.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="New file to write the copy to.")],
) -> None:
    """Write a copy of a LoRA file without its metadata.

    Metadata that loaders need stays, and so does every byte of the tensors.
    The person in the weights is still there.
    """
    from loraudit.lora.source.source import find_source
    from loraudit.metadata import read_exposure, traces
    from loraudit.metadata.judge import judge_metadata
    from loraudit.metadata.scrub import scrub as scrub_file

    scrubbed = scrub_file(target, output)
    left = judge_metadata(traces(read_exposure(find_source(output))))
    emit(scrub_text(scrubbed, output, left, width=width(None)), None)


def scrub_text(scrubbed: Scrubbed, output: Path, left: Sequence[Finding], *, width: int) -> str:
    """Say what `scrub` removed and kept; `left` are findings of the new file.

    Removed values are told by their length alone, in at most `width` columns.
    """
    from rich.table import Table
    from rich.text import Text

    name = clean(output.name)
    table = Table.grid(padding=(0, 2))
    table.add_column(max_width=42)
    for item in scrubbed.removed:
        part = "in part, of" if item.in_part else " " * 11
        key = Text(f"  {item.key}", overflow="fold")
        table.add_row(key, f"{part} {_counted(item.characters, 'character')}")
    lines = [f"Wrote {name}", "", "Removed", *render(table, width=width).splitlines()]
    if not scrubbed.removed:
        lines.append("  nothing: the header said no more than loaders need")
    lines += ["", "Kept"]
    lines += [f"  {key}" for key in scrubbed.kept]
    unchanged = f"{_counted(scrubbed.tensors, 'tensor')}, {scrubbed.tensor_bytes} bytes unchanged"
    lines += [f"  {unchanged}; their sha256 is", f"  {scrubbed.tensor_sha256}"]
    lines += ["", "Still there", f"  {_WEIGHTS}{name}"]
    lines += [f"  {finding.id}  {finding.title}. {finding.detail.partition('. ')[0]}." for finding in left]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"

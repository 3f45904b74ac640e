"""The command `scrub`: copies of LoRA files without metadata, and a list of what was removed."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from loraudit.cli.choices import TextOrJson
from loraudit.cli.console import emit, render, say_error, width
from loraudit.errors import LorauditError, NotScannable
from loraudit.text import clean

if TYPE_CHECKING:
    from loraudit.lora.source.source import Source
    from loraudit.metadata.scrub import Scrubbed

__all__ = ["Copy", "scrub", "scrub_json", "scrub_text"]

EXAMPLES: Final = (
    "loraudit scrub lora.safetensors -o scrubbed.safetensors",
    "loraudit scrub lora.safetensors --dry-run",
    "loraudit scrub loras/ -o scrubbed/",
)
SCHEMA: Final = "loraudit.scrub/1"
_WEIGHTS: Final = "The person in the weights: no change of the header removes that. Ask with: loraudit scan "
_SCALE: Final = (
    "Careful: what the file said of its scale was no plain number and is gone. The copy may act differently."
)


@dataclass(frozen=True)
class Copy:
    """A file and its scrubbed copy."""

    name: str
    """Name of the copy for display, escaped; without a copy, that of the file."""
    done: "Scrubbed | LorauditError"
    """Result, or the reason why there is none."""


def scrub(
    target: Annotated[Path, typer.Argument(help="Safetensors file to copy, or folder of them.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="New file, or for a folder new folder, to write the copy to."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write no copy: only say what would be removed.")
    ] = False,
    keep_provenance: Annotated[
        bool,
        typer.Option(
            "--keep-provenance", help="Keep hashes, the name of a known base model and the licence."
        ),
    ] = False,
    format: Annotated[  # noqa: A002
        TextOrJson, typer.Option("--format", "-f", help="Format of the list.")
    ] = TextOrJson.text,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Show keys that are somebody's own in pipes and JSON too.")
    ] = False,
) -> None:
    """Write copies of LoRA files without their metadata.

    Metadata that loaders need stays, and so does every byte of the tensors.
    The person in the weights is still there.
    """
    if output is None and not dry_run:
        raise LorauditError("scrub writes a copy", "name a new file with -o, or only look with --dry-run")
    written = None if dry_run else output
    if target.is_dir():
        copies, others = _folder(target, written, keep_provenance), _others(target)
    else:
        from loraudit.metadata.scrub import scrub as scrub_file

        done = scrub_file(target, written, provenance=keep_provenance)
        copies, others = [Copy(clean((written or target).name), done)], 0
    if format is TextOrJson.json:
        emit(scrub_json(copies, others, dry_run=dry_run, reveal=reveal), None)
    else:
        shown = reveal or sys.stdout.isatty()
        emit(scrub_text(copies, others, dry_run=dry_run, reveal=shown, width=width(None)), None)
    failed = [copy.done for copy in copies if isinstance(copy.done, LorauditError)]
    for error in failed:
        say_error(str(error), error.hint)
    if failed:
        raise typer.Exit(max(error.exit_code for error in failed))


def scrub_json(
    copies: Sequence[Copy], others: int = 0, *, dry_run: bool = False, reveal: bool = False
) -> str:
    """Write the JSON document `loraudit.scrub/1`; keys that are somebody's own are hidden unless `reveal`."""
    document = {
        "schema": SCHEMA,
        "dry_run": dry_run,
        "files": [_entry(copy, reveal) for copy in copies],
        "not_copied": others,
    }
    return json.dumps(document, indent=2) + "\n"


def scrub_text(
    copies: Sequence[Copy], others: int = 0, *, dry_run: bool = False, reveal: bool = False, width: int
) -> str:
    """Say what `scrub` removed and kept of each file, and that `others` in the folder were not copied.

    Removed values are told by their length alone, in at most `width` columns. Keys that are somebody's own
    are hidden unless `reveal`.
    """
    parts = [_told(copy, dry_run, reveal, width) for copy in copies]
    if others:
        parts.append([f"Not copied: {_counted(others, 'other file')} of the folder"])
    lines = [line for part in parts for line in ("", *part)][1:]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _told(copy: Copy, dry_run: bool, reveal: bool, width: int) -> list[str]:
    from rich.table import Table
    from rich.text import Text

    if isinstance(copy.done, LorauditError):
        return [f"Not copied: {copy.name}"]
    scrubbed = copy.done
    table = Table.grid(padding=(0, 2))
    table.add_column(max_width=42)
    for item in scrubbed.removed:
        part = "in part, of" if item.in_part else " " * 11
        key = Text(f"  {item.told(reveal)}", overflow="fold")
        table.add_row(key, f"{part} {_counted(item.characters, 'character')}")
    lines = [f"Would write {copy.name}" if dry_run else f"Wrote {copy.name}"]
    lines += ["", "Removed", *render(table, width=width).splitlines()]
    if not scrubbed.removed:
        lines.append("  nothing: the header said no more than loaders need")
    lines += ["", "Kept"]
    lines += [f"  {key}" for key in scrubbed.kept]
    unchanged = f"{_counted(scrubbed.tensors, 'tensor')}, {scrubbed.tensor_bytes} bytes unchanged"
    lines += [f"  {unchanged}; their sha256 is", f"  {scrubbed.tensor_sha256}"]
    lines += ["", "Still there", f"  {_WEIGHTS}{copy.name}"]
    lines += [f"  {one.id}  {one.title}. {one.detail.partition('. ')[0]}." for one in scrubbed.left]
    if scrubbed.odd_names:
        lines.append(f"  {_odd(scrubbed.odd_names)}")
    return [*lines, *(["", _SCALE] if scrubbed.scale_lost else [])]


def _entry(copy: Copy, reveal: bool) -> dict[str, Any]:
    if isinstance(copy.done, LorauditError):
        return {"name": copy.name, "error": str(copy.done)}
    done = copy.done
    return {
        "name": copy.name,
        "error": None,
        "removed": [
            {"key": item.told(reveal), "characters": item.characters, "in_part": item.in_part}
            for item in done.removed
        ],
        "kept": list(done.kept),
        "tensors": done.tensors,
        "tensor_bytes": done.tensor_bytes,
        "tensor_sha256": done.tensor_sha256,
        "still_there": [{"id": one.id, "title": one.title, "places": list(one.places)} for one in done.left],
        "tensor_names_of_their_own": done.odd_names,
        "scale_lost": done.scale_lost,
    }


def _folder(target: Path, output: Path | None, provenance: bool) -> list[Copy]:
    """Scrub every LoRA in the folder `target`; one that fails does not stop the others."""
    from loraudit.lora.source.folder import members_of
    from loraudit.lora.source.source import Source

    if output is not None:
        _check(target, output)
    copies: list[Copy] = []
    for name, found in members_of(target):
        if isinstance(found, Source):
            copies += _parts(found, target, output, provenance)
        else:
            copies.append(Copy(name, found))
    if not copies:
        name = clean(target.resolve().name)
        raise NotScannable(
            f"the folder {name} holds no LoRA file", "give a .safetensors file or a folder with one"
        )
    return copies


def _parts(source: "Source", target: Path, output: Path | None, provenance: bool) -> list[Copy]:
    from loraudit.metadata.scrub import scrub as scrub_file

    copies = []
    for part in source.parts:
        below = part.weights.relative_to(target)
        name = clean(below.as_posix(), 300)
        new = None if output is None else output / below
        try:
            if new is not None:
                _make(new.parent)
            done: Scrubbed | LorauditError = scrub_file(
                part.weights, new, provenance=provenance, config=part.config
            )
        except LorauditError as error:
            done = error
        copies.append(Copy(name, done))
    return copies


def _check(target: Path, output: Path) -> None:
    """Raise `LorauditError` unless `output` is a new or empty folder outside of `target`."""
    shown = clean(str(output), 300)
    if output.resolve().is_relative_to(target.resolve()):
        raise LorauditError(f"{shown} is in the folder that is copied", "choose another folder with -o")
    if os.path.lexists(output) and not (output.is_dir() and not any(output.iterdir())):
        raise LorauditError(f"{shown} exists already", "remove it, or choose another path with -o")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LorauditError(
            f"cannot make the folder {clean(str(folder), 300)}: {error.strerror}",
            "choose another path with -o",
        ) from None


def _others(folder: Path) -> int:
    """Count the files below `folder` that are not copied: what lies beside LoRAs."""
    copied = (".safetensors", "adapter_config.json")
    return sum(not name.lower().endswith(copied) for _, _, names in os.walk(folder) for name in names)


def _odd(count: int) -> str:
    told = "1 tensor name holds" if count == 1 else f"{count} tensor names hold"
    return f"{told} words of their own; loaders find tensors by their names"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"

"""The files that reports go to: each `-o` is checked before the work and written whole after the work."""

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loraudit.cli.console import colour, emit, width
from loraudit.errors import LorauditError
from loraudit.files import check_writable, read_within
from loraudit.findings.report import Report
from loraudit.lora.source.address import PEFT_CONFIG, WEIGHTS
from loraudit.report import FORMATS
from loraudit.text import clean

__all__ = ["Output", "check_place", "find_outputs", "write_reports"]

_HEAD: Final = 4000
"""Bytes at the start of a file in which a report names itself, if it is not JSON."""
_JSON: Final = tuple(
    f'"{key}": "{name}'.encode()
    for key, name in (
        ("schema", "loraudit.report"),
        ("schema", "loraudit.inspect/"),
        ("name", 'loraudit",'),
    )
)
"""Marks of a JSON report, of what `inspect` prints, and of SARIF."""
_TEXT: Final = re.compile(rb"(?:\x1b\[[\d;]*m)*(?:\xe2\x94\x8f|\+)[^\n]* VERDICT: ")
"""Start of a text: a corner of its frame, in colours or not, and the verdict in the first line."""
_INSPECTED: Final = re.compile(rb"[^\n]+\n[^\n]+\n[\d,]+ bytes, sha256 [0-9a-f]{64}\n")


@dataclass(frozen=True)
class Output:
    """One report to write."""

    format: str
    """Key of `FORMATS`."""
    path: Path | None
    """File to write; None for stdout."""


def find_outputs(given: Sequence[str], format: str, targets: Sequence[str]) -> tuple[Output, ...]:  # noqa: A002
    """Read every `-o`: `FORMAT=FILE` adds a report, a plain `FILE` takes the report in `format`.

    Without a plain `FILE`, the report in `format` goes to stdout. Raises `LorauditError` if a file is named
    twice, or if `check_place` refuses it.
    """
    named = [_parse(word) for word in given]
    plain = [path for name, path in named if name is None]
    if len(plain) > 1:
        raise LorauditError(
            "-o names two files for one report", "name the format of each further file: -o json=FILE"
        )
    outputs = [Output(format, plain[0] if plain else None)]
    outputs += [Output(name, path) for name, path in named if name is not None]
    paths = [output.path for output in outputs if output.path is not None]
    for path in paths:
        check_place(path, targets)
    real = [os.path.realpath(path) for path in paths]
    if twice := next((path for path in paths if real.count(os.path.realpath(path)) > 1), None):
        raise LorauditError(f"-o names {clean(str(twice), 300)} twice", "give each report a file of its own")
    return tuple(outputs)


def write_reports(reports: Sequence[Report], outputs: Sequence[Output], reveal: bool) -> None:
    """Render `reports` for each of `outputs`.

    An output that cannot be made or written does not stop the others; the first error is raised at the end.
    """
    failed: Exception | None = None
    for output in outputs:
        on_terminal = output.path is None and output.format == "text" and sys.stdout.isatty()
        try:
            text = FORMATS[output.format](
                reports, reveal=reveal or on_terminal, width=width(output.path), color=colour(output.path)
            )
            emit(text, output.path, 0o600 if reveal else 0o666)
        except Exception as error:
            failed = failed or error
    if failed is not None:
        raise failed


def _parse(word: str) -> tuple[str | None, Path]:
    """Split `word` into format and file; the format is None if `word` names none."""
    name, equals, file = word.partition("=")
    if not equals or "/" in name or os.sep in name:
        return None, Path(word)
    if name not in FORMATS:
        raise LorauditError(
            f"no format is called {clean(name)!r}",
            f"choose one of {', '.join(FORMATS)}; a file of that name is ./{clean(word, 300)}",
        )
    if not file:
        raise LorauditError(f"-o {name}= names no file", f"write -o {name}=FILE")
    return name, Path(file)


def check_place(path: Path, targets: Sequence[str]) -> None:
    """Raise `LorauditError` now, before the work, if `path` cannot or must not be written.

    A report replaces neither one of `targets` nor a file beside or in them, unless the file is an earlier
    report. Nor does a report take a name that belongs to a LoRA.
    """
    shown, name = clean(str(path), 300), path.name.lower()
    if name.endswith((WEIGHTS, f"{WEIGHTS}.index.json")) or name == PEFT_CONFIG:
        raise LorauditError(
            f"{shown} is no place for a report",
            "the file is or could be part of a LoRA; choose another path with -o",
        )
    if any(_same(path, target) for target in targets):
        raise LorauditError(
            f"{shown} is no place for a report", "it is a target; choose another path with -o"
        )
    if any(_is_beside(path, target) for target in targets) and not _is_ours(path):
        raise LorauditError(
            f"{shown} is there already, beside a target, and is no report",
            "choose another path with -o, or remove the file",
        )
    check_writable(path)


def _same(path: Path, target: str) -> bool:
    try:
        return path.samefile(target)
    except (OSError, ValueError):
        return False


def _is_beside(path: Path, target: str) -> bool:
    """Tell whether the file `path` is there, within the folder `target` or beside the file `target`."""
    try:
        real, place = Path(os.path.realpath(path)), Path(os.path.realpath(target))
        inside = place in real.parents if place.is_dir() else place.exists() and place.parent == real.parent
        return inside and real.is_file()
    except (OSError, ValueError):
        return False


def _is_ours(path: Path) -> bool:
    """Tell whether the file `path` is empty or an earlier report."""
    from loraudit.report.load import MOST_BYTES

    try:
        data = read_within(path, MOST_BYTES)
    except OSError:
        return False
    head = data[:_HEAD]
    return (
        not data
        or _TEXT.match(head) is not None
        or head.startswith(b"## loraudit: ")
        or (head.startswith(b"<!doctype html>") and b" - loraudit</title>" in head)
        or (head.startswith(b"{") and any(mark in data for mark in _JSON))
        or _INSPECTED.match(head) is not None
    )

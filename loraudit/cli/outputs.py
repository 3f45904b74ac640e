"""The files that reports go to: each `-o` is checked before the work and written whole after the work."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loraudit.cli.console import colour, emit, width
from loraudit.errors import LorauditError
from loraudit.files import check_writable
from loraudit.findings.report import Report
from loraudit.report import FORMATS
from loraudit.text import clean

__all__ = ["Output", "find_outputs", "write_reports"]


@dataclass(frozen=True)
class Output:
    """One report to write."""

    format: str
    """Key of `FORMATS`."""
    path: Path | None
    """File to write; None for stdout."""


def find_outputs(given: Sequence[str], format: str, targets: Sequence[str]) -> tuple[Output, ...]:  # noqa: A002
    """Read every `-o`: `FORMAT=FILE` adds a report, a plain `FILE` takes the report in `format`.

    Without a plain `FILE`, the report in `format` goes to stdout. Raises `LorauditError` if a file cannot be
    written, is named twice, or is one of the `targets`.
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
        _check(path, targets)
    real = [os.path.realpath(path) for path in paths]
    if twice := next((path for path in paths if real.count(os.path.realpath(path)) > 1), None):
        raise LorauditError(f"-o names {clean(str(twice), 300)} twice", "give each report a file of its own")
    return tuple(outputs)


def write_reports(reports: Sequence[Report], outputs: Sequence[Output], reveal: bool) -> None:
    """Render `reports` for each of `outputs`.

    An output that cannot be written does not stop the others; the first such error is raised at the end.
    """
    failed: LorauditError | None = None
    for output in outputs:
        on_terminal = output.path is None and output.format == "text" and sys.stdout.isatty()
        text = FORMATS[output.format](
            reports, reveal=reveal or on_terminal, width=width(output.path), color=colour(output.path)
        )
        try:
            emit(text, output.path, 0o600 if reveal else 0o666)
        except LorauditError as error:
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


def _check(path: Path, targets: Sequence[str]) -> None:
    """Raise `LorauditError` now, before the work, if `path` cannot or must not be written."""
    if path.suffix.lower() == ".safetensors" or any(_same(path, target) for target in targets):
        raise LorauditError(
            f"{clean(str(path), 300)} is no place for a report",
            "the file is or could be a LoRA; choose another path with -o",
        )
    check_writable(path)


def _same(path: Path, target: str) -> bool:
    try:
        return path.samefile(target)
    except (OSError, ValueError):
        return False

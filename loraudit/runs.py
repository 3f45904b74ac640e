"""Long jobs in a folder, which the same call takes up where they were interrupted, with the same results.

The settings are written before any work. Results are kept as they come: whole files, each there or not, or
lines of a file.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from loraudit.errors import LorauditError
from loraudit.files import read_within, replacing, unwritable, write_atomic
from loraudit.text import clean

__all__ = ["OnStep", "Run", "unheard"]

_LARGEST: Final = 1 << 28
"""Limit in bytes on a record or on rows."""

OnStep: TypeAlias = Callable[[int, int, str], None]
"""Listener `(done, total, stage)` of a long job.

An empty stage is the job's title. `total` may shrink where a job turns out to need less, and is 0 in a stage
of unknown length.
"""


def unheard(_done: int, _total: int, _stage: str) -> None:
    """Hear nothing: the `OnStep` of a job that nobody watches."""


@dataclass(frozen=True)
class Run:
    """Job and its folder."""

    folder: Path

    def check(self) -> None:
        """Raise `LorauditError` where the folder can neither be made nor be written; make nothing."""
        folder = self.folder.absolute()
        there = next(path for path in (folder, *folder.parents) if path.exists())
        if not (there.is_dir() and os.access(there, os.W_OK)):
            raise self._unwritable()

    def begin(self, name: str, settings: str, other: Callable[[str], str]) -> None:
        """Make the folder and write `settings` to its file `name`.

        `other` takes the text of that file from an earlier call. Its answer is "" for this job, and otherwise
        says what the folder holds, such as "a table with other settings".

        Raises `LorauditError` if the folder holds another job, or cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = self.folder / name
            held = other(self._text(name)) if os.path.lexists(file) else ""
        except OSError as error:
            raise self._unwritable() from error
        if held:
            raise LorauditError(
                f"{clean(self.folder.name)} holds {held}", "name another folder, or delete this one"
            )
        self.write(name, settings)

    def write(self, name: str, text: str) -> None:
        """Replace the file `name`. Raises `LorauditError` if that fails."""
        write_atomic(self.folder / name, text.encode())

    def keep(self, name: str, save: Callable[[Path], None]) -> Path:
        """Replace the file `name`, whole, by what `save` writes to the path that it is given.

        Raises `LorauditError` for an `OSError`.
        """
        target = self.folder / name
        try:
            with replacing(target) as (temporary,):
                save(temporary)
        except OSError as error:
            raise unwritable(target, error) from None
        return target

    def rows(self, name: str, keep: Callable[[Mapping[str, Any]], bool] = lambda _row: True) -> list[Any]:
        """Read the rows of the file `name`, one JSON object a line; empty if there is no such file.

        A last line that an interruption cut is dropped from the file, as is every row that `keep` refuses.
        Raises `LorauditError` for a file or row that is no JSON, or that `keep` cannot read.
        """
        path = self.folder / name
        if not os.path.lexists(path):
            return []
        whole = self._text(name).split("\n")[:-1]
        try:
            kept = [(line, row) for line in whole if keep(row := json.loads(line))]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise self.damaged(name) from None
        self.write(name, "".join(f"{line}\n" for line, _ in kept))
        return [row for _, row in kept]

    def append(self, name: str, row: Mapping[str, Any]) -> None:
        """Add `row` to the file `name`."""
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def damaged(self, name: str) -> LorauditError:
        """Make the error for a file `name` of the folder that is not what this job writes."""
        return LorauditError(
            f"{clean(name)} in {clean(self.folder.name)} is damaged",
            "name another folder, or delete this one",
        )

    def _text(self, name: str) -> str:
        """Read the file `name`. Raises `LorauditError` if it is no text."""
        try:
            return read_within(self.folder / name, _LARGEST).decode()
        except (OSError, UnicodeDecodeError):
            raise self.damaged(name) from None

    def _unwritable(self) -> LorauditError:
        return LorauditError(
            f"cannot write {clean(str(self.folder), 300)}", "choose another folder with --output"
        )

"""Files that a scan leaves out, by patterns of names and paths."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import PurePath

__all__ = ["is_excluded"]


def is_excluded(patterns: Sequence[str], *paths: str | PurePath) -> bool:
    """Return True if one of `patterns` matches a name in one of `paths`, a path, or the start of a path.

    `*` stands for any characters, `/` too, `?` for one and `[ab]` for one of those. The start of a path is a
    folder, and a pattern that matches a folder leaves out all in it. Only a pattern that begins with `/` is
    compared with an absolute path: what lies above the working folder is nobody's choice.
    """
    for parts in (PurePath(path).parts for path in paths):
        absolute = parts[:1] == ("/",)
        wanted = [p.rstrip("/").removeprefix("./") for p in patterns if p.startswith("/") is absolute]
        ends = range(1 + absolute, len(parts) + 1)
        names = {str(PurePath(*parts[:end])) for end in ends}.union(() if absolute else parts)
        if any(fnmatchcase(name, pattern) for name in names for pattern in wanted):
            return True
    return False

"""`[tool.loraudit]` in the pyproject.toml of the current folder: options of every scan made there.

That folder and no other: a file that came with a LoRA must not decide how the LoRA is judged. What a scan
writes or reveals is not for a file to decide either.
"""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from loraudit.errors import LorauditError
from loraudit.files import read_bounded
from loraudit.text import clean

__all__ = ["PROJECT", "project_settings", "refuse"]

PROJECT: Final = "pyproject.toml"
_MOST: Final = 1_000_000
_OURS: Final = re.compile(rb"tool\W{1,9}loraudit|^[ \t]*\[?[ \t]*[\"']?tool[\"']?[ \t]*[\]=]", re.MULTILINE)
"""`[tool.loraudit]`, or a table `tool` that may hold it, however they are spelt."""


def project_settings(known: Collection[str]) -> dict[str, Any]:
    """The table `[tool.loraudit]`, empty if there is none.

    Raises `LorauditError` if the file cannot be read, or a key is not one of `known`.
    """
    path = Path(PROJECT)
    if not path.exists():
        return {}
    data = read_bounded(path, "the file", _MOST)
    if b"loraudit" not in data or not _OURS.search(data):
        # Whatever else is wrong with it is not ours to say, and most projects need not wait for a parser.
        return {}
    import tomllib

    try:
        table = tomllib.loads(data.decode()).get("tool", {}).get("loraudit", {})
        keys = list(table.keys())
    except (ValueError, AttributeError, RecursionError) as error:
        raise refuse(f"cannot be read: {clean(str(error), 200)}") from None
    if unknown := [key for key in keys if key not in known]:
        raise refuse(f"unknown key {clean(unknown[0])!r}; there are {', '.join(sorted(known))}")
    return dict(table)


def refuse(why: str) -> LorauditError:
    """The error that the table cannot be used."""
    return LorauditError(f"{PROJECT}, [tool.loraudit]: {why}", "correct it, or ignore it with --isolated")

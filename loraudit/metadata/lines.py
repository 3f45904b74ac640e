"""Keys and values in a text that is no JSON: lines of YAML and TOML, and the arguments of a command."""

import re
from collections.abc import Iterator
from typing import Final

__all__ = ["pairs"]

_READ: Final = 100_000
"""Limit in characters on the start of a text that is looked through."""
_KEY: Final = r"[A-Za-z][A-Za-z0-9_.-]{0,40}"
_LINE: Final = re.compile(
    rf"^[ \t]{{0,40}}(?:- )?[\"']?({_KEY})[\"']?[ \t]{{0,4}}[:=][ \t]{{1,4}}(\S[^\n]{{0,500}})", re.MULTILINE
)
_ARGUMENT: Final = re.compile(
    rf"(?:--({_KEY})[= ]|(?<![\w.-])({_KEY})=(?=[\"']))"
    r"(?:\"([^\"\n]{1,500})\"|'([^'\n]{1,500})'|([^\s\"',)]{1,500}))"
)


def pairs(text: str) -> Iterator[tuple[str, str]]:
    """Yield key and value of each line `key: value` or `key = value`, and of each argument in `text`."""
    start = text[:_READ]
    if "\n" in start:
        for match in _LINE.finditer(start):
            yield match[1], match[2].strip().strip("\"',")
    if "=" in start or "--" in start:
        for match in _ARGUMENT.finditer(start):
            yield match[1] or match[2], match[3] or match[4] or match[5]

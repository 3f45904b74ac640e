"""JSON inside a metadata value, as members and texts: any shape, equal keys included."""

import json
from collections.abc import Iterator
from typing import Any, Final

__all__ = ["Members", "NotReadError", "members", "parse", "texts"]

MAX_CHARACTERS: Final = 8_000_000


class NotReadError(Exception):
    """Text that is no JSON, or too much of it."""


class Members(list[tuple[str, Any]]):
    """Members of a JSON object in order: equal keys lose nothing."""


def parse(text: str) -> Any:  # noqa: ANN401
    """Parse `text` as JSON, its objects as `Members`. Raises `NotReadError`."""
    if len(text) > MAX_CHARACTERS:
        raise NotReadError
    try:
        return json.loads(text, object_pairs_hook=Members)
    except (ValueError, RecursionError, MemoryError):
        raise NotReadError from None


def members(value: object) -> Members:
    """List the members of an object; none of anything else."""
    return value if isinstance(value, Members) else Members()


def texts(value: object) -> Iterator[tuple[str, str]]:
    """Yield every text in `value` with its key, and every key as a text with an empty key."""
    waiting: list[tuple[str, object]] = [("", value)]
    while waiting:
        key, item = waiting.pop()
        if isinstance(item, Members):
            yield from (("", name) for name, _ in reversed(item))
            waiting += [pair for pair in reversed(item) if isinstance(pair[1], (str, list))]
        elif isinstance(item, list):
            waiting += [(key, inner) for inner in reversed(item)]
        elif isinstance(item, str):
            yield key, item

"""JSON inside a metadata value, as members and texts: any shape, however wrapped, equal keys included."""

import json
from collections.abc import Iterator
from typing import Any, Final

from loraudit.metadata.budget import is_affordable
from loraudit.metadata.wrapped import MAX_CHARACTERS, unwrapped

__all__ = ["Members", "NotReadError", "members", "members_called", "objects", "parse", "read", "texts"]

_DEPTH: Final = 6
"""Limit on JSON as a text in JSON as a text: merges of merges."""


class NotReadError(Exception):
    """Text that is no JSON, or too much of it."""


class Members(list[tuple[str, Any]]):
    """Members of a JSON object in order: equal keys lose nothing."""


def parse(text: str) -> Any:  # noqa: ANN401
    """Parse `text` as JSON, its objects as `Members`. Raises `NotReadError`."""
    if len(text) > MAX_CHARACTERS or not is_affordable(text):
        raise NotReadError
    try:
        return json.loads(text, object_pairs_hook=Members)
    except (ValueError, RecursionError, MemoryError):
        raise NotReadError from None


def read(text: str) -> Any:  # noqa: ANN401
    """Parse the JSON that `text` holds, however wrapped, and all JSON in it. Raises `NotReadError`."""
    bare = unwrapped(text)
    if bare[:1] not in {"{", "["}:
        raise NotReadError
    return _unfold(parse(bare))


def _unfold(value: Any) -> Any:  # noqa: ANN401
    """Put what is wrapped in the place of every text in `value`, JSON parsed, and return `value`."""
    waiting = [(value, _DEPTH)]
    while waiting:
        item, left = waiting.pop()
        if not isinstance(item, list):
            continue
        for at, pair in enumerate(item):
            inner, below = pair[1] if isinstance(item, Members) else pair, left
            if isinstance(inner, str) and left and not inner.isalpha():
                bare = unwrapped(inner)
                if bare[:1] in {"{", "["}:
                    try:
                        bare, below = parse(bare), left - 1
                    except NotReadError:
                        bare = inner
                if bare is not inner:
                    inner = bare
                    item[at] = (pair[0], inner) if isinstance(item, Members) else inner
            if isinstance(inner, list):
                waiting.append((inner, below))
    return value


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


def objects(value: object) -> Iterator[Members]:
    """Yield every object in a parsed value."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Members):
            yield item
            waiting += [inner for _, inner in item if isinstance(inner, list)]
        elif isinstance(item, list):
            waiting += item


def members_called(value: object, name: str) -> Iterator[tuple[str, Members]]:
    """Yield `name` and the members of what stands under it, wherever in `value` that is."""
    for inner in objects(value):
        yield from ((key, members(table)) for key, table in inner if key == name)

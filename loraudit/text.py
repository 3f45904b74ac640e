"""Text out of a hostile file: harmless to show, strict to parse."""

import json
import unicodedata
from collections.abc import Callable
from typing import Any, NoReturn

from loraudit.errors import NotScannable
from loraudit.hiding import named

__all__ = ["JsonObject", "clean", "decode", "duration", "parse_json", "twice"]

# Controls, bidirectional and zero-width formats, surrogates, private use, line and paragraph separators.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})

# At the start of a line these are commands to GitHub's build runner.
_COMMANDS = {"::": r":\x3a", "##[": r"#\x23["}


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def clean(text: str, limit: int | None = 120) -> str:
    r"""Escape `text` for a terminal, a log and a one-line message, cut to `limit` characters.

    Visible escapes such as `\x1b` and `\u202e` stand for control characters (ANSI escapes, new lines, C1) and
    format characters (bidirectional overrides, zero width). So they do for private use, for line and
    paragraph separators and for lone surrogates. Escapes also break what GitHub's build runner would take for
    a command. Cleaning cleaned text changes nothing.
    """
    if limit is not None:
        text = text[: limit + 1]
    if not text.isprintable():  # most text is; a header holds thousands of names
        text = "".join(_escape(char) if unicodedata.category(char) in _HIDDEN else char for char in text)
    # Long lines are folded, so that any place may come to be the start of one.
    for command, harmless in _COMMANDS.items():
        text = text.replace(command, harmless)
    return text if limit is None or len(text) <= limit else text[: limit - 1] + "…"


def duration(seconds: float) -> str:
    """Write a duration in the largest unit that tells it well: `80 s`, `12 min`, `3.4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def parse_json(data: bytes | str, what: str) -> Any:  # noqa: ANN401
    """Parse JSON strictly: UTF-8, no equal keys, no NaN, no lone surrogates, no bottomless nesting.

    `what` names the source in the message. Raises `NotScannable`.
    """
    return decode(data, what, _unique_keys)


def decode(data: bytes | str, what: str, hook: Callable[[list[tuple[str, Any]]], Any]) -> Any:  # noqa: ANN401
    """Parse JSON from a file, with `hook` applied to the members of each object. Raises `NotScannable`."""
    try:
        # json.loads would take bytes in UTF-16 and UTF-32 too, and surrogates in UTF-8; no loader does.
        text = data.decode() if isinstance(data, bytes) else data
        value = json.loads(text, object_pairs_hook=hook, parse_constant=_no_constant)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except _DuplicateKeyError as error:
        raise twice(what, str(error)) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise NotScannable(
            f"{what} is not valid JSON: {clean(str(error))}", "download or export it again"
        ) from None


def twice(what: str, key: str) -> NotScannable:
    """Make the error for `what` that holds `key` twice where that means nothing sound."""
    return NotScannable(f"{what} holds the key '{named(key)}' twice", "the file was tampered with or broken")


class JsonObject(dict[str, Any]):
    """JSON object in which the last of equal keys wins, as in the reference parser."""

    __slots__ = ("passed_over",)

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.passed_over: list[tuple[str, Any]] = []
        """Members that a later one of the same name replaced, in order."""
        if len(self) < len(pairs):
            last = {key: at for at, (key, _) in enumerate(pairs)}
            self.passed_over = [pair for at, pair in enumerate(pairs) if last[pair[0]] != at]


class _DuplicateKeyError(Exception):
    """JSON object that names one key twice."""


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in pairs:
        if key in table:
            raise _DuplicateKeyError(key)
        table[key] = value
    return table


def _no_constant(token: str) -> NoReturn:
    raise ValueError(f"{token} is not allowed")

"""JSON that anybody may have written, read member by member: of the right type, in range, harmless.

A member of the wrong kind refuses the whole document.
"""

import math
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, Final, NoReturn, TypeVar

from loraudit.errors import LorauditError
from loraudit.text import plain

__all__ = ["HINT", "Members", "refuse"]

HINT: Final = "write one with: loraudit scan TARGET --format json -o FILE"
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_LARGEST: Final = 2**63
_DEFAULTS: Final[Mapping[str, Any]] = {
    "path": None,
    "summary": "",
    "quotes": (),
    "places": (),
    "known": None,
    "allowed": None,
    "failed": False,
    "update": (),
    "distributions": (),
}
"""Of members that the first reports did not have."""

E = TypeVar("E", bound=Enum)


class Members:
    """A JSON object, read member by member; one of the wrong kind refuses the document."""

    def __init__(self, value: Any, where: str) -> None:  # noqa: ANN401
        if not isinstance(value, dict):
            refuse(where or "the whole", "an object")
        self._members: dict[str, Any] = value
        self._where = where

    def optional(self, name: str) -> Any:  # noqa: ANN401
        """As it is, None if it is not there."""
        return self._members.get(name)

    def text(self, name: str) -> str:
        """Harmless."""
        return _text(self._there(name), self._at(name))

    def text_or_none(self, name: str) -> str | None:
        """Harmless; None for null."""
        return None if self._there(name) is None else self.text(name)

    def spelt(self, name: str, pattern: re.Pattern[str], due: str) -> str:
        """Of the form that is `due`, in words."""
        text = self.text(name)
        if not pattern.fullmatch(text):
            refuse(self._at(name), due)
        return text

    def hash_or_none(self, name: str) -> str | None:
        """A SHA-256, or None for null."""
        return None if self._there(name) is None else self.spelt(name, _HASH, "a SHA-256")

    def one_of(self, name: str, kind: type[E]) -> E:
        """A value of `kind`."""
        try:
            return kind(self._there(name))
        except ValueError:
            refuse(self._at(name), f"one of {', '.join(str(each.value) for each in kind)}")

    def count(self, name: str) -> int:
        """A whole number from 0 on."""
        return _count(self._there(name), self._at(name))

    def count_or_none(self, name: str) -> int | None:
        """The same; None for null."""
        return None if self._there(name) is None else self.count(name)

    def number(self, name: str, least: float = -math.inf, most: float = math.inf) -> float:
        """Finite, from `least` to `most`."""
        return _number(self._there(name), self._at(name), least, most)

    def number_or_none(self, name: str) -> float | None:
        """Finite; None for null."""
        return None if self._there(name) is None else self.number(name)

    def bool_or_none(self, name: str) -> bool | None:
        """True or false; None for null."""
        value = self._there(name)
        if value is not None and not isinstance(value, bool):
            refuse(self._at(name), "true, false or null")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Of a list, all harmless."""
        return tuple(_text(value, where) for value, where in self._items(name))

    def counts(self, name: str) -> tuple[int, ...]:
        """Of a list, all from 0 on."""
        return tuple(_count(value, where) for value, where in self._items(name))

    def shares(self, name: str) -> tuple[float, ...]:
        """Of a list, all in 0..1."""
        return tuple(_number(value, where, 0, 1) for value, where in self._items(name))

    def object_or_none(self, name: str) -> "Members | None":
        """An object; None for null."""
        value = self._there(name)
        return None if value is None else Members(value, self._at(name))

    def object(self, name: str) -> "Members":
        """An object."""
        return Members(self._there(name), self._at(name))

    def objects(self, name: str) -> Iterator["Members"]:
        """Of a list."""
        return (Members(value, where) for value, where in self._items(name))

    def numbers(self, name: str) -> dict[str, float | int | str | None]:
        """Members of any name: a number, a text or null each."""
        inner = self.object(name)
        found: dict[str, float | int | str | None] = {}
        for key, value in inner._members.items():
            if isinstance(value, str):
                found[plain(key)] = plain(value)
            else:
                found[plain(key)] = value if value is None else _number(value, inner._at(key))
        return found

    def _there(self, name: str) -> Any:  # noqa: ANN401
        if name not in self._members and name not in _DEFAULTS:
            refuse(self._at(name), "there")
        return self._members.get(name, _DEFAULTS.get(name))

    def _items(self, name: str) -> Iterator[tuple[Any, str]]:
        values = self._there(name)
        if not isinstance(values, list | tuple):
            refuse(self._at(name), "a list")
        return ((value, f"{self._at(name)}[{at}]") for at, value in enumerate(values))

    def _at(self, name: str) -> str:
        name = plain(name, 60)
        return f"{self._where}.{name}" if self._where else name


def _text(value: Any, where: str) -> str:  # noqa: ANN401
    if not isinstance(value, str):
        refuse(where, "a text")
    return plain(value)


def _count(value: Any, where: str) -> int:  # noqa: ANN401
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _LARGEST:
        refuse(where, "a whole number from 0 on")
    return value


def _number(value: Any, where: str, least: float = -math.inf, most: float = math.inf) -> float:  # noqa: ANN401
    # A whole number stays one, and may be too large for a float.
    fits = not isinstance(value, bool) and isinstance(value, int | float) and abs(value) < _LARGEST
    if not fits or not math.isfinite(value) or not least <= value <= most:
        refuse(where, "a number" if least == -math.inf else "a number in its range")
    return value  # type: ignore[no-any-return]


def refuse(where: str, due: str) -> NoReturn:
    """Raise the `LorauditError` that names the member `where` and what it should be."""
    raise LorauditError(f"the report is not as loraudit writes it: {where} is not {due}", HINT)

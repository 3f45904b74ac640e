"""Kinds of single JSON values: a kind reads a value, writes a value and gives the JSON Schema.

Reading trusts nobody: a value of another kind or out of range refuses the whole document, and every text is
escaped for display. The bounds on the sizes of numbers and of ids hold on reading alone; the schema does not
tell them.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, NoReturn, Protocol

from loraudit.errors import LorauditError
from loraudit.text import clean

__all__ = [
    "HINT",
    "Choice",
    "Count",
    "Flag",
    "Kind",
    "Number",
    "Scalar",
    "Text",
    "reference",
    "refuse",
    "typed",
]

HINT: Final = "write one with: loraudit scan TARGET --format json -o FILE"
_LARGEST: Final = 2**63
"""Bound that the absolute values of all numbers of a document stay below."""


class Kind(Protocol):
    """A kind of JSON value."""

    def read(self, value: Any, where: str) -> Any:  # noqa: ANN401
        """Return the value of the record. Raises `LorauditError` that names `where` if `value` is refused."""
        ...

    def write(self, value: Any) -> Any:  # noqa: ANN401
        """Return the JSON value of a value of the record."""
        ...

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema (draft 2020-12), or a reference to one of `definitions`."""
        ...


@dataclass(frozen=True)
class Text:
    """A string, escaped for display."""

    null: bool = False
    pattern: str | None = None
    """Regular expression that the whole string matches; None: any string."""
    most: int | None = None
    """Characters at most; None: any number."""
    due: str = "a text"
    """Name of the kind in errors."""
    form: str | None = None
    """Format of the schema, which is not checked on reading."""
    name: str = ""
    """Name under `$defs`; empty: the schema stands where it is used."""

    def read(self, value: Any, where: str) -> str | None:  # noqa: ANN401
        """Return the string, escaped for display."""
        if value is None and self.null:
            return None
        if not isinstance(value, str):
            refuse(where, "a text")
        text = clean(value, None)
        matches = self.pattern is None or re.fullmatch(self.pattern, text)
        if not matches or (self.most is not None and len(text) > self.most):
            refuse(where, self.due)
        return text

    def write(self, value: str | None) -> str | None:
        """Return the string, escaped for display."""
        return None if value is None else clean(value, None)

    def schema(self) -> dict[str, Any]:
        """Return the schema of a string."""
        return reference(self.name) if self.name else self.definition()

    def definition(self) -> dict[str, Any]:
        """Return the schema that stands under `$defs`."""
        told = {"pattern": self.pattern, "format": self.form}
        return typed("string", self.null) | {key: value for key, value in told.items() if value is not None}


@dataclass(frozen=True)
class Choice:
    """A string out of a few, or a value of an enumeration."""

    options: Sequence[str] | type[Enum]
    name: str = ""
    """Name under `$defs`; empty: the schema stands where it is used."""

    def read(self, value: Any, where: str) -> Any:  # noqa: ANN401
        """Return the string, or the member of the enumeration."""
        if not isinstance(value, str) or value not in self._values:
            refuse(where, f"one of {', '.join(self._values)}")
        return self.options(value) if isinstance(self.options, type) else value

    def write(self, value: Any) -> str:  # noqa: ANN401
        """Return the string."""
        return clean(value.value if isinstance(value, Enum) else value, None)

    def schema(self) -> dict[str, Any]:
        """Return the schema that lists the options."""
        return reference(self.name) if self.name else self.definition()

    def definition(self) -> dict[str, Any]:
        """Return the schema that stands under `$defs`."""
        values = self._values
        return {"enum": values} if len(values) > 1 else {"const": values[0]}

    @property
    def _values(self) -> list[str]:
        if isinstance(self.options, type):
            return [option.value for option in self.options]
        return list(self.options)


@dataclass(frozen=True)
class Flag:
    """True or false."""

    null: bool = False

    def read(self, value: Any, where: str) -> bool | None:  # noqa: ANN401
        """Return true or false."""
        if not isinstance(value, bool) and not (value is None and self.null):
            refuse(where, "true, false or null" if self.null else "true or false")
        return value

    def write(self, value: bool | None) -> bool | None:
        """Return the value itself."""
        return value

    def schema(self) -> dict[str, Any]:
        """Return the schema of a boolean."""
        return typed("boolean", self.null)


@dataclass(frozen=True)
class Count:
    """A whole number from 0 to 2**63 - 1."""

    null: bool = False
    told: bool = True
    """False if the schema does not tell that the numbers begin at 0."""

    def read(self, value: Any, where: str) -> int | None:  # noqa: ANN401
        """Return the number."""
        if value is None and self.null:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _LARGEST:
            refuse(where, "a whole number from 0 on")
        return value

    def write(self, value: int | None) -> int | None:
        """Return the number itself."""
        return value

    def schema(self) -> dict[str, Any]:
        """Return the schema of an integer."""
        return typed("integer", self.null) | ({"minimum": 0} if self.told else {})


@dataclass(frozen=True)
class Number:
    """A number of absolute value below 2**63, written with six significant digits; null if not finite."""

    least: float | None = None
    """Smallest value; None: no bound."""
    most: float | None = None
    """Largest value; None: no bound."""
    told: bool = True
    """False if the schema does not tell `least` and `most`."""
    lacking: float | None = None
    """Value that null stands for in the record: None, or NaN where the record needs a float."""

    def read(self, value: Any, where: str) -> float | None:  # noqa: ANN401
        """Return the number; a whole number stays an integer."""
        if value is None:
            return self.lacking
        # A whole number may be too large for a float.
        fits = not isinstance(value, bool) and isinstance(value, int | float) and abs(value) < _LARGEST
        low = -math.inf if self.least is None else self.least
        high = math.inf if self.most is None else self.most
        if not fits or not math.isfinite(value) or not low <= value <= high:
            refuse(where, "a number" if (self.least, self.most) == (None, None) else "a number in its range")
        return value  # type: ignore[no-any-return]

    def write(self, value: float | None) -> float | None:
        """Return the number with six significant digits."""
        if not isinstance(value, float):
            return value
        # `+ 0.0` turns -0.0 into 0.0.
        return float(f"{value:.6g}") + 0.0 if math.isfinite(value) else None

    def schema(self) -> dict[str, Any]:
        """Return the schema of a number or null."""
        ends = {"minimum": self.least, "maximum": self.most} if self.told else {}
        return typed("number", null=True) | {key: end for key, end in ends.items() if end is not None}


@dataclass(frozen=True)
class Scalar:
    """A number, a string or null."""

    def read(self, value: Any, where: str) -> float | str | None:  # noqa: ANN401
        """Return the number, or the string escaped for display."""
        return clean(value, None) if isinstance(value, str) else Number().read(value, where)

    def write(self, value: float | str | None) -> float | str | None:
        """Return the number with six significant digits, or the string escaped for display."""
        return clean(value, None) if isinstance(value, str) else Number().write(value)

    def schema(self) -> dict[str, Any]:
        """Return the schema of a number, a string or null."""
        return {"type": ["number", "string", "null"]}


def refuse(where: str, due: str) -> NoReturn:
    """Raise the `LorauditError` that names the member `where` and `due`, the value it should have."""
    raise LorauditError(f"the report is not as loraudit writes it: {where} is not {due}", HINT)


def reference(name: str) -> dict[str, Any]:
    """Return the schema that refers to `name` under `$defs`."""
    return {"$ref": f"#/$defs/{name}"}


def typed(name: str, null: bool) -> dict[str, Any]:
    """Return the schema of the JSON type `name`, with `null` or null."""
    return {"type": [name, "null"] if null else name}

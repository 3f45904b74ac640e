"""Kinds of JSON values that hold others: lists, and objects with named members or with any."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from loraudit.report.kinds import Kind, reference, refuse, typed
from loraudit.text import clean

__all__ = ["Many", "Member", "Named", "Object", "definitions"]


@dataclass(frozen=True)
class Many:
    """A list of values of one kind; a tuple in the record."""

    kind: Kind
    null: bool = False
    least: int = 0
    """Number of values at least."""
    exactly: int | None = None
    """Number of values; None: any from `least` on."""
    due: str = "a list"
    """Name of a list of the right length, in errors."""

    def read(self, value: Any, where: str) -> tuple[Any, ...] | None:  # noqa: ANN401
        """Return the values."""
        if value is None and self.null:
            return None
        if not isinstance(value, list):
            refuse(where, "a list")
        values = tuple(self.kind.read(inner, f"{where}[{at}]") for at, inner in enumerate(value))
        if len(values) < self.least or self.exactly not in {None, len(values)}:
            refuse(where, self.due)
        return values

    def write(self, values: Sequence[Any] | None) -> list[Any] | None:
        """Return the values as JSON."""
        return None if values is None else [self.kind.write(value) for value in values]

    def schema(self) -> dict[str, Any]:
        """Return the schema of an array."""
        least, most = (self.least, None) if self.exactly is None else (self.exactly, self.exactly)
        ends = ({"minItems": least} if least else {}) | ({} if most is None else {"maxItems": most})
        return typed("array", self.null) | ends | {"items": self.kind.schema()}


@dataclass(frozen=True)
class Named:
    """An object whose members have any name and one kind; a mapping in the record."""

    kind: Kind

    def read(self, value: Any, where: str) -> dict[str, Any]:  # noqa: ANN401
        """Return the values by name, names escaped for display."""
        if not isinstance(value, dict):
            refuse(where, "an object")
        return {clean(name, None): self.kind.read(inner, _at(where, name)) for name, inner in value.items()}

    def write(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values as JSON."""
        return {clean(name, None): self.kind.write(value) for name, value in values.items()}

    def schema(self) -> dict[str, Any]:
        """Return the schema of an object without named members."""
        return {"type": "object", "additionalProperties": self.kind.schema()}


@dataclass(frozen=True)
class Member:
    """A named member of an object."""

    kind: Kind
    says: str = ""
    """Description in the schema."""
    late: bool = False
    """True if earlier reports lack the member, so that the default of the record holds."""
    source: Literal["record", "derived", "added", "checked"] = "record"
    """Source of the value on writing.

    `record` is a field of the record, `derived` a property of the record, not read back. The writer sets the
    members that are `added` or `checked`. Of these, reading refuses a `checked` one of the wrong kind.
    """
    left_out: bool = False
    """True if the member is not written where the record has None."""
    never_null: bool = False
    """True if reading refuses null, though the schema allows null."""

    def schema(self) -> dict[str, Any]:
        """Return the schema of the value with its description."""
        return ({"description": self.says} if self.says else {}) | self.kind.schema()


@dataclass(frozen=True)
class Object:
    """An object with named members, and the record made from them; reading ignores all other members."""

    build: Callable[..., Any]
    """Class of the record, called with the members that were read."""
    members: Mapping[str, Member]
    says: str = ""
    """Description under `$defs`."""
    name: str = ""
    """Name under `$defs`; empty: the schema stands where it is used."""
    null: bool = False

    def read(self, value: Any, where: str) -> Any:  # noqa: ANN401
        """Return the record."""
        if value is None and self.null:
            return None
        if not isinstance(value, dict):
            refuse(where or "the whole", "an object")
        found = {}
        for name, member in self.members.items():
            if member.source == "checked" and name in value:
                member.kind.read(value[name], _at(where, name))
            if member.source != "record":
                continue
            if name in value and not (member.never_null and value[name] is None):
                found[name] = member.kind.read(value[name], _at(where, name))
            elif name in value or not member.late:
                refuse(_at(where, name), "there")
        return self.build(**found)

    def write(self, record: Any) -> dict[str, Any] | None:  # noqa: ANN401
        """Return the members as JSON, except those that the writer sets."""
        if record is None:
            return None
        members = self.members.items()
        stored = {name for name, member in members if member.source in {"record", "derived"}}
        values = {name: getattr(record, name) for name, _ in members if name in stored}
        return {
            name: self.members[name].kind.write(value)
            for name, value in values.items()
            if value is not None or not self.members[name].left_out
        }

    def schema(self) -> dict[str, Any]:
        """Return the schema of an object without members of other names."""
        return reference(self.name) if self.name else self.definition()

    def definition(self) -> dict[str, Any]:
        """Return the schema that stands under `$defs`."""
        return (
            ({"description": self.says} if self.says else {})
            | typed("object", self.null)
            | {
                "additionalProperties": False,
                "required": [name for name, member in self.members.items() if not member.late],
                "properties": {name: member.schema() for name, member in self.members.items()},
            }
        )

    def part(self, *names: str, **kinds: Kind) -> "Object":
        """Return the object of these members alone, read as a dictionary; `kinds` replace their kinds."""
        kept = {name: replace(self.members[name], source="record") for name in (*names, *kinds)}
        return Object(dict, kept | {name: replace(kept[name], kind=kind) for name, kind in kinds.items()})


def definitions(*kinds: Kind) -> dict[str, Any]:
    """Return the schemas of all named kinds in `kinds`, by name."""
    return {kind.name: kind.definition() for kind in _all(kinds) if getattr(kind, "name", "")}  # type: ignore[attr-defined]


def _all(kinds: Sequence[Kind]) -> Iterator[Kind]:
    for kind in kinds:
        yield kind
        if isinstance(kind, Object):
            yield from _all([member.kind for member in kind.members.values()])
        elif isinstance(kind, Many | Named):
            yield from _all([kind.kind])


def _at(where: str, name: str) -> str:
    name = clean(name, 60)
    return f"{where}.{name}" if where else name

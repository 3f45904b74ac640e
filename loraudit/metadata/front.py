"""Front matter of a model card: YAML, read as a stream of events.

No value is ever made of the YAML: an alias is refused, a tag makes no object, and a number is its text.
PyYAML is imported once a card with front matter is met; huggingface_hub needs PyYAML anyway.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = ["CARD_BYTES", "Front", "front_matter"]

CARD_BYTES: Final = 65_536
"""Limit in bytes on the start of a model card that is read."""
_FENCE: Final = "---"
_DEPTH: Final = 32


class Front(NamedTuple):
    """Texts of a front matter."""

    texts: tuple[tuple[str, str], ...] = ()
    """Key and text of each scalar, in order, at any depth; in a list, the key is that of the list."""
    whole: bool = True
    """True if the front matter was YAML as far as it was read."""


class _NotReadError(Exception):
    """YAML that is nested without end, or stands for itself."""


def front_matter(card: str) -> Front:
    """Read the YAML between the first two lines `---` of a model card; nothing if the first is not its start.

    If the text is no YAML, its `key: value` lines are read.
    """
    lines = card[:CARD_BYTES].removeprefix("\ufeff").split("\n")
    if lines[0].strip() != _FENCE:
        return Front()
    end = next((number for number, line in enumerate(lines[1:], 1) if line.rstrip() == _FENCE), len(lines))
    from yaml import YAMLError

    try:
        return Front(tuple(_scalars("\n".join(lines[1:end]))))
    except (YAMLError, _NotReadError, ValueError, OverflowError):
        # The last two: PyYAML's own, of a code point or version that is too large.
        return Front(tuple(_lines(lines[1:end])), whole=False)


def _scalars(text: str) -> Iterator[tuple[str, str]]:
    import yaml

    # The parser of libyaml, where PyYAML was built with it, is ten times as fast.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    # One entry for each list or mapping that is open: the key it stands under, and whether it is a mapping.
    open_: list[tuple[str, bool]] = []
    key: str | None = None
    for event in yaml.parse(text, Loader=loader):
        in_mapping = bool(open_) and open_[-1][1]
        inherited = open_[-1][0] if open_ else ""
        if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            open_.append((inherited if key is None else key, isinstance(event, yaml.MappingStartEvent)))
            if len(open_) > _DEPTH:
                raise _NotReadError
            key = None
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            open_.pop()
            key = None
        elif isinstance(event, yaml.AliasEvent):
            raise _NotReadError
        elif isinstance(event, yaml.ScalarEvent):
            if in_mapping and key is None:
                key = event.value
            else:
                yield inherited if key is None else key, event.value
                key = None


def _lines(lines: list[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        key, colon, value = line.strip().removeprefix("- ").partition(":")
        if colon:
            yield key.strip(), value.strip().strip("\"'")

"""Entries of metadata: every key in or beside a LoRA with its text, those inside JSON included."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from loraudit.metadata import patterns
from loraudit.metadata.allowed import KEPT_KEYS, allowed_metadata
from loraudit.metadata.base_names import says_more
from loraudit.metadata.beside import JSON_SIDES, README, Said
from loraudit.metadata.kinds import MERGED, MERGED_KEY, Kind, is_machine, kind_of, says_something, spelled
from loraudit.metadata.lines import pairs
from loraudit.metadata.names import subject
from loraudit.metadata.nested import Members, NotReadError, members, read, texts
from loraudit.metadata.quotes import EMPTY
from loraudit.metadata.wrapped import unwrapped

__all__ = ["DATASETS", "FOLDERS", "TAGS", "THUMBNAILS", "Entry", "Value", "entries", "merged", "value_of"]

FOLDERS: Final = ("ss_dataset_dirs", "ss_reg_dataset_dirs")
TAGS: Final = "ss_tag_frequency"
DATASETS: Final = ("ss_datasets", "ot_config")
THUMBNAILS: Final = ("modelspec.thumbnail", "ssmd_cover_images")
_TABLES: Final = frozenset({*FOLDERS, TAGS, *DATASETS})
"""Keys of objects that have rules of their own."""
_JSON: Final = _TABLES | {"lora_adapter_metadata", "ssmd_cover_images"}
_PLACES: Final = _JSON | KEPT_KEYS | {
    "ss_output_name", "modelspec.title", "modelspec.merged_from", "ssmd_display_name", "name",
    "ss_before_falsification_output_name", "modelspec.trigger_phrase", "modelspec.usage_hint",
    "modelspec.tags", "trained_words", "ssmd_keywords", "ssmd_tags", "instance_prompt", "ss_training_comment",
    "modelspec.comment", "modelspec.description", "ssmd_description", "modelspec.thumbnail",
    "modelspec.author", "ssmd_author", "ssmd_source", "ss_sd_model_name", "ss_vae_name", "ss_network_args",
    "ss_optimizer", "sd.artifact.v1", "prompt", "workflow",
}  # fmt: skip
"""Keys that may stand in a report; any other is the file's own word."""
_TAG_KEYS: Final = frozenset({"tag", "tags"})
"""Keys under which a model card has words of the Hub."""
_OWN: Final = "a key of its own"


@dataclass(frozen=True)
class Value:
    """Text with its parsed content."""

    said: Said
    place: str
    text: str
    """Text without what it is wrapped in."""
    parsed: Any
    """JSON in the text, and in the texts in it; None if there is none."""
    texts: tuple[tuple[str, str], ...]
    """Key and text of every text in the JSON, or of the text as a whole."""
    pictures: frozenset[str]
    """Pictures among `texts`."""
    broken: bool
    """True if the text should be JSON and is none, or too much of it."""


@dataclass(frozen=True)
class Entry:
    """Key with what stands under it."""

    place: str
    key: str
    kind: Kind
    text: str = ""
    """Text under the key; empty for an object."""
    parsed: Any = None
    """Object under a key that has rules of its own."""
    inner: bool = False
    """True if the entry stands inside the JSON of another."""


def value_of(said: Said) -> Value:
    """Parse what `said` says."""
    place = said.place
    if place == "header":
        own = MERGED if MERGED_KEY.fullmatch(said.key) else _OWN
        place = said.key if said.key in _PLACES else own
    bare, parsed = unwrapped(said.text), None
    if bare[:1] in {"{", "["}:
        try:
            parsed = read(bare)
        except NotReadError:
            parsed = None
    whole = ((said.key, bare),) if parsed is None else tuple(texts(parsed))
    pictures = frozenset(text for _, text in whole if patterns.picture_type(text) is not None)
    broken = parsed is None and bare.strip() not in EMPTY and _is_json(said)
    return Value(said, place, bare, parsed, whole, pictures, broken)


def _is_json(said: Said) -> bool:
    if said.place == "header":
        return said.key in _JSON or MERGED_KEY.fullmatch(said.key) is not None
    return said.place.endswith(".json") or said.place in JSON_SIDES


def entries(value: Value) -> Iterator[Entry]:
    """Yield the entries of a value of the header or of a side file; none of other places."""
    said = value.said
    if said.place == "header":
        kind = kind_of(said.key)
        if says_something(said.key):
            yield Entry(value.place, said.key, "note", said.key)
        if said.key in KEPT_KEYS:
            yield from _strange(value)
        if said.key in _TABLES:
            yield Entry(value.place, said.key, "", value.text, value.parsed)
        elif value.parsed is None:
            yield Entry(value.place, said.key, kind or _free(said.key, value.text), value.text)
            yield from _settings(value.place, value.text)
        else:
            below = _below(value.parsed, value.place, said.key, kind)
            # A program's own tables have names of programs, and notes of theirs.
            machine = is_machine(said.key)
            yield from (entry for entry in below if not machine or entry.kind in {"person", "trigger"})
    elif value.parsed is not None and _is_json(said):
        yield from _below(value.parsed, value.place, "", "")
    elif said.place == README and spelled(said.key) not in _TAG_KEYS:
        kind = kind_of(said.key)
        if kind in {"person", "trigger", "author"}:
            yield Entry(value.place, said.key, kind, said.text)


def _below(value: object, place: str, key: str, kind: Kind) -> Iterator[Entry]:
    """Yield the entries inside `value`; a key of no kind of its own has that of the key it stands under."""
    waiting: list[tuple[str, object, Kind]] = [(key, value, kind)]
    while waiting:
        key, item, kind = waiting.pop()
        if key in _TABLES or (kind == "graph" and isinstance(item, list)):
            yield Entry(place, key, kind, parsed=item, inner=True)
        elif isinstance(item, Members):
            for name, inner in reversed(item):
                own = kind_of(name)
                own = kind if kind == "person" and own == "title" else own  # "people": [{"name": "Jane"}]
                waiting.append((name, inner, own or ("" if is_machine(name) else kind)))
                if not own and kind in {"person", "trigger"} and subject(name):
                    yield Entry(place, key, kind, name, inner=True)
                elif says_something(name):
                    yield Entry(place, key, "note", name, inner=True)
        elif isinstance(item, list):
            waiting += [(key, inner, kind) for inner in reversed(item)]
        elif isinstance(item, str) and item.strip() not in EMPTY:
            yield Entry(place, key, kind or _free(key, item), item, inner=True)
            yield from _settings(place, item)


def _strange(value: Value) -> Iterator[Entry]:
    """Yield the words that stand where programs have words of their own, as those that `scrub` keeps."""
    said = value.said
    if value.parsed is None and said.key in allowed_metadata({said.key: said.text}):
        return
    for key, text in value.texts:
        # A new kind of network has arguments and modules of new names, but none of words in a row.
        least = 2 if value.parsed is None or " " in text else 3
        named = value.parsed is not None and not key and " " not in text
        if not named and not key.endswith("base_model_name_or_path") and says_more(text, least):
            yield Entry(value.place, said.key, "note", text, inner=value.parsed is not None)


def _settings(place: str, text: str) -> Iterator[Entry]:
    """Yield the entries of a text that is a configuration or a command."""
    if ("\n" in text or "=" in text or "--" in text) and patterns.picture_type(text) is None:
        for key, value in pairs(text):
            kind = kind_of(key)
            if kind:
                yield Entry(place, key, kind, value, inner=True)


def _free(key: str, text: str) -> Kind:
    """Tell a note, words in a row under a key that says nothing, from what programs write."""
    bare = text.strip()
    sentence = len(bare.split(maxsplit=1)) > 1 and patterns.picture_type(text) is None
    words = sentence and not is_machine(key) and not re.match(r"https?://\S+$", bare[:500])
    return "note" if words and subject(bare) else ""


def merged(value: Value) -> Iterator[dict[str, object]]:
    """Yield the metadata of each source of a merge, at any depth: kohya's merge of merges keeps all."""
    if value.said.place == "header" and MERGED_KEY.fullmatch(value.said.key):
        waiting: list[object] = [value.parsed]
        while waiting:
            table = members(waiting.pop())
            if table:
                yield dict(table)
            waiting += [inner for key, inner in table if MERGED_KEY.fullmatch(key)]

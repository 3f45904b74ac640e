"""Rules of the metadata audit, one family after another: an exposure in, traces out."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from loraudit.findings.finding import Confidence, Severity
from loraudit.hiding import masked
from loraudit.lora.layouts.adapter_names import adapter_names
from loraudit.metadata import patterns
from loraudit.metadata.beside import CAPTION, FOLDER, IN_SIDES, INSIDE, PICTURE, README
from loraudit.metadata.budget import MOST_QUOTED, MOST_SECRETS, Budget, pieces, spending
from loraudit.metadata.entries import (
    DATASETS,
    FOLDERS,
    TAGS,
    THUMBNAILS,
    Entry,
    Value,
    entries,
    merged,
    value_of,
)
from loraudit.metadata.exposure import Exposure
from loraudit.metadata.graphs import graph_prompts, prompts
from loraudit.metadata.judge import Trace
from loraudit.metadata.kinds import MERGED
from loraudit.metadata.masking import Texts, known_secrets, searched, without_secrets
from loraudit.metadata.names import instance, is_generic, is_person, subject
from loraudit.metadata.nested import Members, members, texts
from loraudit.metadata.quotes import EMPTY, quote, quoted
from loraudit.metadata.run import run_traces
from loraudit.metadata.side import side_traces
from loraudit.metadata.tokens import embedded, token

__all__ = ["traces"]

_RESIZED: Final = re.compile(r"^(?:dimension is resized from|Dynamic resize with)[^;]{0,120}; ?")
"""Prefix that kohya's `resize_lora.py` puts before a comment."""
_CAPTION_KEYS: Final = frozenset({"caption_prefix", "caption_suffix"})


def traces(exposure: Exposure) -> list[Trace]:
    """List every trace in `exposure`, an unreadable value and a hidden one included.

    What is past the budget of a LoRA is a trace too, of what was not looked at.
    """
    beside = {said.place for said in exposure.said} - {"header", INSIDE} | {FOLDER, *exposure.beside.unread}
    with spending(_budget(exposure)):
        return [
            trace._replace(beside=True) if trace.place in beside else trace for trace in _traces(exposure)
        ]


def _budget(exposure: Exposure) -> Budget:
    """Make a budget for `exposure`. Each time that all of it is parsed has one of its own."""
    return Budget(len(exposure.beside.pictures))


def _traces(exposure: Exposure) -> Iterator[Trace]:
    values, budget = _values(exposure), _budget(exposure)
    known: dict[str, None] = {}
    told: dict[tuple[str, str], Confidence] = {}
    for place, secret, confidence in known_secrets(_texts(values), exposure):
        if secret not in known and len(known) == MOST_SECRETS:
            # Each is looked for in every text; without that, a quote could hold the next.
            yield Trace("LA-HIDDEN-002", Severity.INCONCLUSIVE, place)
            return
        known[secret] = None
        if (place, secret) not in told:
            told[place, secret] = confidence
            yield Trace("LA-SECRET-001", Severity.CRITICAL, place, quote(masked(secret)), confidence)
    if known:
        # No other rule sees a secret, so that none can quote one.
        with spending(_budget(exposure)):
            exposure = without_secrets(exposure, known)
        values = _values(exposure)
    found: list[Entry] = []
    for value in values:
        for entry in () if budget.is_spent else entries(value):
            inner = texts(entry.parsed) if entry.kind == "graph" else ()
            budget.judge((entry.text, *(text for _, text in inner)))
            if budget.is_spent:
                break
            found.append(entry)
        if value.broken or budget.is_spent:
            yield Trace("LA-HIDDEN-002", Severity.INCONCLUSIVE, value.place)
    names = [*_folder_names(found), *_people(found), *_tokens(found, exposure), *_adapters(exposure)]
    yield from names
    yield from _titles(found, exposure, {trace.quote.lower() for trace in names})
    yield from _captions(values, found)
    yield from _pictures(values)
    yield from side_traces(exposure)
    yield from _authors(found)
    yield from _spelled(values, exposure)
    yield from _hidden(values, exposure)
    yield from run_traces(
        {value.said.key: value.said.text for value in values if value.said.place == "header"}
    )
    for table in (table for value in values for table in merged(value)):
        yield from (trace._replace(place=MERGED) for trace in run_traces(table))


def _values(exposure: Exposure) -> list[Value]:
    values, budget = [], _budget(exposure)
    with spending(budget):
        for said in exposure.said:
            # A key may say something where its value says nothing.
            if said.place == "header" or said.text.strip() not in EMPTY:
                before, value = budget.refused, value_of(said)
                values.append(replace(value, broken=True) if budget.refused > before else value)
    return values


def _texts(values: list[Value]) -> list[Texts]:
    return [
        (value.place, [pair for pair in value.texts if pair[1] not in value.pictures]) for value in values
    ]


def _folder_names(found: list[Entry]) -> Iterator[Trace]:
    for entry in found:
        folders: list[str] = []
        if entry.key in (*FOLDERS, TAGS):
            folders = [name for name, _ in members(entry.parsed)]
        elif entry.key in DATASETS:
            wanted = {"image_dir", "class_tokens", "image_directory"}
            folders = [text for key, text in texts(entry.parsed) if key in wanted]
            folders += [
                name for _, tags in _members_called(entry.parsed, "tag_frequency") for name, _ in tags
            ]
            folders += [text for concept in _concepts(entry.parsed) for key, text in concept if key == "name"]
        for folder in folders:
            yield from _named(entry.place, instance(str(folder)))


def _people(found: list[Entry]) -> Iterator[Trace]:
    for entry in found:
        if entry.kind == "person":
            yield from _named(entry.place, entry.text)


def _named(place: str, name: str) -> Iterator[Trace]:
    if subject(name):
        person = is_person(name)
        severity, confidence = (
            (Severity.HIGH, Confidence.HIGH) if person else (Severity.MEDIUM, Confidence.MEDIUM)
        )
        yield Trace("LA-NAME-001", severity, place, quote(name), confidence)


def _tokens(found: list[Entry], exposure: Exposure) -> Iterator[Trace]:
    words = [("the tensor names", word) for word in _first(embedded(exposure.tensors))]
    words += [(entry.place, word) for entry in found if (word := token(entry.key, entry.text))]
    for place, word in words:
        yield from _named(place, word)
        if not subject(word):
            yield Trace("LA-CAPTION-002", Severity.LOW, place, quote(word))


def _adapters(exposure: Exposure) -> Iterator[Trace]:
    """Find the names that people gave their adapters: peft writes them into the name of every tensor."""
    for name in _first(adapter_names(exposure.tensors)):
        yield from _named("the tensor names", name)


def _titles(found: list[Entry], exposure: Exposure, known: set[str]) -> Iterator[Trace]:
    words = {word.lower() for name in known for word in subject(name)}
    for entry in found:
        told = subject(entry.text) if entry.kind == "title" else []
        if told:
            words |= {word.lower() for word in told}
            yield Trace("LA-NAME-002", Severity.MEDIUM, entry.place, quote(entry.text), Confidence.LOW)
    for name in exposure.names:
        told = subject(name)
        # One word may be anything; two, or one that the file itself uses, rather a name.
        if len(told) > 1 or any(word.lower() in words for word in told):
            yield Trace("LA-NAME-002", Severity.LOW, "the file name", quote(name), Confidence.LOW)


def _captions(values: list[Value], found: list[Entry]) -> Iterator[Trace]:
    for entry in found:
        yield from _table_captions(entry)
        if entry.kind in {"trigger", "note"} and patterns.picture_type(entry.text) is None:
            yield from quoted("LA-CAPTION-002", Severity.LOW, entry.place, _RESIZED.sub("", entry.text))
        elif entry.kind == "graph":
            told = prompts(entry.text) if entry.parsed is None else graph_prompts(entry.parsed)
            yield from quoted("LA-CAPTION-002", Severity.LOW, entry.place, *told)
    for value in values:
        said = value.said
        if said.place == README and said.key in {"instance_prompt", "text", "prompt"}:
            yield from quoted("LA-CAPTION-002", Severity.LOW, value.place, said.text)


def _table_captions(entry: Entry) -> Iterator[Trace]:
    tables = [entry.parsed] if entry.key == TAGS else []
    tables += [table for _, table in _members_called(entry.parsed, "tag_frequency")]
    for folder, tags in (pair for table in tables for pair in members(table)):
        yield from _tagged(entry.place, instance(folder).lower(), members(tags))
    for inner, text in texts(entry.parsed) if entry.kind != "graph" else ():
        if inner in _CAPTION_KEYS or (entry.key == "ot_config" and inner == "prompt"):
            yield from quoted("LA-CAPTION-001", Severity.MEDIUM, entry.place, text)


def _tagged(place: str, folder: str, tags: Members) -> Iterator[Trace]:
    ordered = sorted(tags, key=lambda tag: -tag[1] if isinstance(tag[1], int) else 0)
    # A picture without a caption counts under the words of its folder.
    captions = [tag for tag, _ in ordered if tag.strip().lower() != folder]
    yield from quoted("LA-CAPTION-001", Severity.MEDIUM, place, *_first(captions))
    if len(captions) < len(ordered):
        alone = (tag for tag, _ in ordered if tag.strip().lower() == folder and not is_generic(tag))
        yield from quoted("LA-CAPTION-002", Severity.LOW, place, *_first(alone))


def _authors(found: list[Entry]) -> Iterator[Trace]:
    for entry in found:
        if entry.kind == "author" and subject(entry.text):
            yield from quoted("LA-CONTACT-001", Severity.LOW, entry.place, entry.text)


def _pictures(values: list[Value]) -> Iterator[Trace]:
    count = size = 0
    found: dict[str, None] = {}
    for value in values:
        shown = value.said.key in THUMBNAILS and value.said.place == "header"
        for _, text in value.texts if shown or value.pictures else ():
            if text in value.pictures or (shown and text.startswith("data:")):
                count, size = count + 1, size + len(text) * 3 // 4
                found[value.place] = None
    for place in found:
        numbers = {"pictures": count, "bytes": size}
        yield Trace("LA-IMAGE-001", Severity.HIGH, place, numbers=numbers)


def _spelled(values: list[Value], exposure: Exposure) -> Iterator[Trace]:
    """Find paths and addresses in every text."""
    for place, text, whole in searched(_texts(values), exposure):
        if not whole:
            yield Trace("LA-HIDDEN-002", Severity.INCONCLUSIVE, place)
        for path in _first(path for piece in pieces(text) for path in patterns.paths(piece)):
            severity = Severity.MEDIUM if patterns.is_home(path) else Severity.LOW
            yield Trace("LA-PATH-001", severity, place, quote(path))
        for address in _first(found for piece in pieces(text) for found in patterns.addresses(piece)):
            yield Trace("LA-CONTACT-001", Severity.MEDIUM, place, quote(address))


def _hidden(values: list[Value], exposure: Exposure) -> Iterator[Trace]:
    for item in exposure.hidden[:MOST_QUOTED]:
        shown = quote(item.text)
        yield Trace("LA-HIDDEN-001", Severity.MEDIUM, _HIDDEN_PLACES[item.kind], shown)
    for value in (value for value in values if value.said.place not in {PICTURE, INSIDE, IN_SIDES, CAPTION}):
        repeated = sum(len(inner) - len({key for key, _ in inner}) for inner in _objects(value.parsed))
        if repeated:
            yield Trace("LA-HIDDEN-001", Severity.MEDIUM, f"{value.place} (a name given twice)")
        long = [text for _, text in value.texts if len(text) >= patterns.OPAQUE]
        if any(patterns.is_opaque(text) and text not in value.pictures for text in long):
            yield Trace("LA-HIDDEN-001", Severity.MEDIUM, f"{value.place} (an opaque block)")


_HIDDEN_PLACES: Final = {
    "metadata key": "a metadata key given twice",
    "tensor name": "a tensor given twice",
    "tensor field": "an unknown field of a tensor",
    "padding": "white space around the header",
}


def _first(texts: Iterable[str]) -> list[str]:
    """List different texts in order, no more than are quoted."""
    found: dict[str, None] = {}
    for text in texts:
        found[text] = None
        if len(found) == MOST_QUOTED:
            break
    return list(found)


def _objects(value: object) -> Iterator[Members]:
    """Yield every object in a parsed value."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Members):
            yield item
            waiting += [inner for _, inner in item if isinstance(inner, list)]
        elif isinstance(item, list):
            waiting += item


def _members_called(value: object, name: str) -> Iterator[tuple[str, Members]]:
    for inner in _objects(value):
        yield from ((key, members(table)) for key, table in inner if key == name)


def _concepts(value: object) -> Iterator[Members]:
    """Yield OneTrainer's `concepts`: a list of objects, each a folder of pictures."""
    for key, concepts in members(value):
        if key == "concepts" and isinstance(concepts, list):
            yield from (members(concept) for concept in concepts)

"""Rules of the metadata audit, one family after another: an exposure in, traces out."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from loraudit.findings.finding import Confidence, Severity
from loraudit.hiding import masked
from loraudit.metadata import patterns
from loraudit.metadata.beside import CAPTION, FOLDER, IN_SIDES, INSIDE, PICTURE, README
from loraudit.metadata.budget import MOST_QUOTED, MOST_SECRETS, Budget, first, pieces, spending
from loraudit.metadata.entries import TAGS, THUMBNAILS, Entry, Value, entries, merged, value_of
from loraudit.metadata.exposure import Exposure
from loraudit.metadata.graphs import graph_prompts, prompts
from loraudit.metadata.judge import Trace
from loraudit.metadata.kinds import MERGED
from loraudit.metadata.masking import Texts, known_secrets, searched, without_secrets
from loraudit.metadata.names import instance, is_generic, subject
from loraudit.metadata.nested import Members, members, members_called, objects, texts
from loraudit.metadata.quotes import EMPTY, quote, quoted
from loraudit.metadata.run import run_traces
from loraudit.metadata.side import side_traces
from loraudit.metadata.subjects import name_traces, title_traces

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
    names = list(name_traces(found, exposure))
    yield from names
    yield from title_traces(found, exposure, {trace.quote.lower() for trace in names})
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
    tables += [table for _, table in members_called(entry.parsed, "tag_frequency")]
    for folder, tags in (pair for table in tables for pair in members(table)):
        yield from _tagged(entry.place, instance(folder).lower(), members(tags))
    for inner, text in texts(entry.parsed) if entry.kind != "graph" else ():
        if inner in _CAPTION_KEYS or (entry.key == "ot_config" and inner == "prompt"):
            yield from quoted("LA-CAPTION-001", Severity.MEDIUM, entry.place, text)


def _tagged(place: str, folder: str, tags: Members) -> Iterator[Trace]:
    ordered = sorted(tags, key=lambda tag: -tag[1] if isinstance(tag[1], int) else 0)
    # A picture without a caption counts under the words of its folder.
    captions = [tag for tag, _ in ordered if tag.strip().lower() != folder]
    yield from quoted("LA-CAPTION-001", Severity.MEDIUM, place, *first(captions))
    if len(captions) < len(ordered):
        alone = (tag for tag, _ in ordered if tag.strip().lower() == folder and not is_generic(tag))
        yield from quoted("LA-CAPTION-002", Severity.LOW, place, *first(alone))


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
        for path in first(path for piece in pieces(text) for path in patterns.paths(piece)):
            severity = Severity.MEDIUM if patterns.is_home(path) else Severity.LOW
            yield Trace("LA-PATH-001", severity, place, quote(path))
        for address in first(found for piece in pieces(text) for found in patterns.addresses(piece)):
            yield Trace("LA-CONTACT-001", Severity.MEDIUM, place, quote(address))


def _hidden(values: list[Value], exposure: Exposure) -> Iterator[Trace]:
    for item in exposure.hidden[:MOST_QUOTED]:
        shown = quote(item.text)
        yield Trace("LA-HIDDEN-001", Severity.MEDIUM, _HIDDEN_PLACES[item.kind], shown)
    for value in (value for value in values if value.said.place not in {PICTURE, INSIDE, IN_SIDES, CAPTION}):
        repeated = sum(len(inner) - len({key for key, _ in inner}) for inner in objects(value.parsed))
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

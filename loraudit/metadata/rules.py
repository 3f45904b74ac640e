"""Rules of the metadata audit, one family after another: an exposure in, traces out."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from loraudit.findings.finding import Confidence, Severity
from loraudit.hiding import masked
from loraudit.metadata import patterns
from loraudit.metadata.beside import CAPTION, PICTURE, README, Said, bundled
from loraudit.metadata.exposure import Exposure
from loraudit.metadata.judge import Trace
from loraudit.metadata.masking import Texts, known_secrets, searched, without_secrets
from loraudit.metadata.names import instance, is_generic, is_person, subject
from loraudit.metadata.nested import Members, NotReadError, members, parse, texts
from loraudit.metadata.quotes import EMPTY, quote, quoted
from loraudit.metadata.run import run_traces
from loraudit.metadata.side import side_traces

__all__ = ["traces"]

_FOLDERS: Final = ("ss_dataset_dirs", "ss_reg_dataset_dirs")
_TAGS: Final = "ss_tag_frequency"
_DATASETS: Final = "ss_datasets"
_JSON: Final = frozenset(
    {*_FOLDERS, _TAGS, _DATASETS, "ot_config", "lora_adapter_metadata", "ssmd_cover_images"}
)
_TITLES: Final = ("ss_output_name", "modelspec.title", "modelspec.merged_from", "ssmd_display_name", "name")
_TRIGGERS: Final = (
    "modelspec.trigger_phrase", "modelspec.usage_hint", "modelspec.tags", "trained_words", "ssmd_keywords",
    "ssmd_tags", "instance_prompt",
)  # fmt: skip
_NOTES: Final = ("ss_training_comment", "modelspec.comment", "modelspec.description", "ssmd_description")
_THUMBNAILS: Final = ("modelspec.thumbnail", "ssmd_cover_images")
_AUTHORS: Final = ("modelspec.author", "ssmd_author", "ssmd_source")
_PLACES: Final = frozenset(
    {*_JSON, *_TITLES, *_TRIGGERS, *_NOTES, *_THUMBNAILS, *_AUTHORS}
    | {"ss_sd_model_name", "ss_vae_name", "ss_network_args", "ss_optimizer"}
)
"""Keys that may stand in a report; any other is the file's own word."""
_RESIZED: Final = re.compile(r"^(?:dimension is resized from|Dynamic resize with)[^;]{0,120}; ?")
"""Prefix that kohya's `resize_lora.py` puts before a comment."""
_CAPTION_KEYS: Final = frozenset({"caption_prefix", "caption_suffix"})


@dataclass(frozen=True)
class _Value:
    """Text with its parsed content."""

    said: Said
    place: str
    parsed: Any
    """JSON in the text; None if there is none."""
    texts: tuple[tuple[str, str], ...]
    """Key and text of every text in the JSON, or of the text as a whole."""
    pictures: frozenset[str]
    """Pictures among `texts`."""


def traces(exposure: Exposure) -> Iterator[Trace]:
    """Yield every trace in `exposure`, an unreadable value and a hidden one included."""
    beside = {said.place for said in exposure.said} - {"header"} | set(exposure.beside.unread)
    for trace in _traces(exposure):
        yield trace._replace(beside=True) if trace.place in beside else trace


def _traces(exposure: Exposure) -> Iterator[Trace]:
    values = _values(exposure)
    for value in values:
        if value.parsed is None and _is_json(value.said):
            yield Trace("LA-HIDDEN-002", Severity.INCONCLUSIVE, value.place)
    known: dict[str, None] = {}
    for place, secret, confidence in known_secrets(_texts(values), exposure):
        if secret not in known:
            yield Trace("LA-SECRET-001", Severity.CRITICAL, place, quote(masked(secret)), confidence)
        known[secret] = None
    if known:
        # No other rule sees a secret, so that none can quote one.
        exposure = without_secrets(exposure, known)
        values = _values(exposure)
    names = [*_folder_names(values), *_embeddings(exposure)]
    yield from names
    yield from _titles(values, exposure, {trace.quote.lower() for trace in names})
    yield from _captions(values)
    yield from _pictures(values)
    yield from side_traces(exposure)
    yield from _spelled(values, exposure)
    yield from _hidden(values, exposure)
    yield from run_traces(
        {value.said.key: value.said.text for value in values if value.said.place == "header"}
    )


def _values(exposure: Exposure) -> list[_Value]:
    return [_value(said) for said in exposure.said if said.text.strip() not in EMPTY]


def _texts(values: list[_Value]) -> list[Texts]:
    return [
        (value.place, [pair for pair in value.texts if pair[1] not in value.pictures]) for value in values
    ]


def _value(said: Said) -> _Value:
    if said.place == "header":
        place = said.key if said.key in _PLACES else "a key of its own"
    else:
        place = said.place
    parsed = None
    if said.text.lstrip()[:1] in {"{", "["}:
        try:
            parsed = parse(said.text)
        except NotReadError:
            parsed = None
    whole = ((said.key, said.text),) if parsed is None else tuple(texts(parsed))
    pictures = frozenset(text for _, text in whole if patterns.picture_type(text) is not None)
    return _Value(said, place, parsed, whole, pictures)


def _is_json(said: Said) -> bool:
    return said.key in _JSON if said.place == "header" else said.place.endswith(".json")


def _folder_names(values: list[_Value]) -> Iterator[Trace]:
    for value in values:
        folders: list[str] = []
        if value.said.key in (*_FOLDERS, _TAGS):
            folders = [name for name, _ in members(value.parsed)]
        elif value.said.key in (_DATASETS, "ot_config"):
            wanted = {"image_dir", "class_tokens", "image_directory"}
            folders = [text for key, text in value.texts if key in wanted]
            folders += [
                name for _, tags in _members_called(value.parsed, "tag_frequency") for name, _ in tags
            ]
            folders += [text for concept in _concepts(value.parsed) for key, text in concept if key == "name"]
        for folder in folders:
            yield from _named(value.place, instance(str(folder)))


def _named(place: str, name: str) -> Iterator[Trace]:
    if subject(name):
        person = is_person(name)
        severity, confidence = (
            (Severity.HIGH, Confidence.HIGH) if person else (Severity.MEDIUM, Confidence.MEDIUM)
        )
        yield Trace("LA-NAME-001", severity, place, quote(name), confidence)


def _embeddings(exposure: Exposure) -> Iterator[Trace]:
    for word in bundled(exposure.tensors):
        yield from _named("the tensor names", word)
        if not subject(word):
            yield Trace("LA-CAPTION-002", Severity.LOW, "the tensor names", quote(word))


def _titles(values: list[_Value], exposure: Exposure, known: set[str]) -> Iterator[Trace]:
    titled = [value for value in values if value.said.key in _TITLES and value.said.place == "header"]
    words = {word.lower() for name in known for word in subject(name)}
    for value in titled:
        found = subject(value.said.text)
        if found:
            words |= {word.lower() for word in found}
            shown = quote(value.said.text)
            yield Trace("LA-NAME-002", Severity.MEDIUM, value.place, shown, Confidence.LOW)
    for name in exposure.names:
        found = subject(name)
        # One word may be anything; two, or one that the file itself uses, rather a name.
        if len(found) > 1 or any(word.lower() in words for word in found):
            yield Trace("LA-NAME-002", Severity.LOW, "the file name", quote(name), Confidence.LOW)


def _captions(values: list[_Value]) -> Iterator[Trace]:
    for value in values:
        key, place = value.said.key, value.place
        tables = [value.parsed] if key == _TAGS else []
        tables += [table for _, table in _members_called(value.parsed, "tag_frequency")]
        for folder, tags in (pair for table in tables for pair in members(table)):
            yield from _tagged(place, instance(folder).lower(), members(tags))
        for inner, text in value.texts if value.parsed is not None else ():
            if inner in _CAPTION_KEYS or (key == "ot_config" and inner == "prompt"):
                yield from quoted("LA-CAPTION-001", Severity.MEDIUM, place, text)
        in_readme = value.said.place == README and key in {"instance_prompt", "text", "prompt"}
        in_header = value.said.place == "header" and key in (*_TRIGGERS, *_NOTES)
        if (in_readme or in_header) and patterns.picture_type(value.said.text) is None:
            yield from quoted("LA-CAPTION-002", Severity.LOW, place, _RESIZED.sub("", value.said.text))


def _tagged(place: str, folder: str, tags: Members) -> Iterator[Trace]:
    ordered = sorted(tags, key=lambda tag: -tag[1] if isinstance(tag[1], int) else 0)
    # A picture without a caption counts under the words of its folder.
    captions = [tag for tag, _ in ordered if tag.strip().lower() != folder]
    yield from quoted("LA-CAPTION-001", Severity.MEDIUM, place, *captions)
    if len(captions) < len(ordered):
        alone = (tag for tag, _ in ordered if tag.strip().lower() == folder and not is_generic(tag))
        yield from quoted("LA-CAPTION-002", Severity.LOW, place, *alone)


def _pictures(values: list[_Value]) -> Iterator[Trace]:
    count = size = 0
    found: dict[str, None] = {}
    for value in values:
        shown = value.said.key in _THUMBNAILS and value.said.place == "header"
        for _, text in value.texts if shown or value.pictures else ():
            if text in value.pictures or (shown and text.startswith("data:")):
                count, size = count + 1, size + len(text) * 3 // 4
                found[value.place] = None
    for place in found:
        numbers = {"pictures": count, "bytes": size}
        yield Trace("LA-IMAGE-001", Severity.HIGH, place, numbers=numbers)


def _spelled(values: list[_Value], exposure: Exposure) -> Iterator[Trace]:
    """Find paths and addresses in every text."""
    for place, text, whole in searched(_texts(values), exposure):
        if not whole:
            yield Trace("LA-HIDDEN-002", Severity.INCONCLUSIVE, place)
        for path in dict.fromkeys(patterns.paths(text)):
            severity = Severity.MEDIUM if patterns.is_home(path) else Severity.LOW
            yield Trace("LA-PATH-001", severity, place, quote(path))
        for address in dict.fromkeys(patterns.addresses(text)):
            yield Trace("LA-CONTACT-001", Severity.MEDIUM, place, quote(address))
    for value in values:
        if value.said.place == "header" and value.said.key in _AUTHORS:
            yield from quoted("LA-CONTACT-001", Severity.LOW, value.place, value.said.text)


def _hidden(values: list[_Value], exposure: Exposure) -> Iterator[Trace]:
    for item in exposure.hidden:
        shown = quote(item.text)
        yield Trace("LA-HIDDEN-001", Severity.MEDIUM, _HIDDEN_PLACES[item.kind], shown)
    for value in (value for value in values if value.said.place not in {PICTURE, CAPTION}):
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

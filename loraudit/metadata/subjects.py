"""Rules for names of the subject: of folders, people, tokens and adapters, of the model and the file."""

from collections.abc import Iterator

from loraudit.findings.finding import Confidence, Severity
from loraudit.hiding import is_public
from loraudit.lora.layouts.adapter_names import adapter_names
from loraudit.metadata.budget import first
from loraudit.metadata.entries import DATASETS, FOLDERS, TAGS, Entry
from loraudit.metadata.exposure import Exposure
from loraudit.metadata.judge import Trace
from loraudit.metadata.names import instance, is_generic, is_person, subject
from loraudit.metadata.nested import Members, members, members_called, texts
from loraudit.metadata.quotes import quote
from loraudit.metadata.tokens import embedded, token

__all__ = ["name_traces", "title_traces"]


def name_traces(found: list[Entry], exposure: Exposure) -> Iterator[Trace]:
    """Yield the names that the training folders, the words about people and the tensors hold."""
    yield from _folder_names(found)
    yield from _people(found)
    yield from _tokens(found, exposure)
    yield from _adapters(exposure)


def _folder_names(found: list[Entry]) -> Iterator[Trace]:
    for entry in found:
        folders: list[str] = []
        if entry.key in (*FOLDERS, TAGS):
            folders = [name for name, _ in members(entry.parsed)]
        elif entry.key in DATASETS:
            wanted = {"image_dir", "class_tokens", "image_directory"}
            folders = [text for key, text in texts(entry.parsed) if key in wanted]
            folders += [name for _, tags in members_called(entry.parsed, "tag_frequency") for name, _ in tags]
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
    words = [("the tensor names", word) for word in first(embedded(exposure.tensors))]
    words += [(entry.place, word) for entry in found if (word := token(entry.key, entry.text))]
    for place, word in words:
        yield from _named(place, word)
        if not subject(word):
            yield Trace("LA-CAPTION-002", Severity.LOW, place, quote(word))


def _adapters(exposure: Exposure) -> Iterator[Trace]:
    """Find the names that people gave their adapters: peft writes them into the name of every tensor."""
    place = "the tensor names"
    for name in first(adapter_names(exposure.tensors)):
        yield from _named(place, name)
        # A made-up word calls the subject up, and a row of numbers may be anything.
        if not (subject(name) or is_public(name) or (is_generic(name) and name.upper() != name.lower())):
            yield Trace("LA-CAPTION-002", Severity.LOW, place, quote(name))


def title_traces(found: list[Entry], exposure: Exposure, known: set[str]) -> Iterator[Trace]:
    """Yield the names of the model and of the file that may name the subject; `known` are names found."""
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


def _concepts(value: object) -> Iterator[Members]:
    """Yield OneTrainer's `concepts`: a list of objects, each a folder of pictures."""
    for key, concepts in members(value):
        if key == "concepts" and isinstance(concepts, list):
            yield from (members(concept) for concept in concepts)

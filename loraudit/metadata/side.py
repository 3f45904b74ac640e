"""Rules for pictures in and beside a LoRA, for their words, and for what else lies beside it."""

import re
from collections.abc import Iterator
from typing import Final

from loraudit.findings.finding import Confidence, Severity
from loraudit.findings.fingerprints import PICKLES
from loraudit.metadata.beside import CAPTION, FOLDER, IN_SIDES, INSIDE, PICTURE, TEXT_SIDES
from loraudit.metadata.exposure import Exposure
from loraudit.metadata.graphs import prompts
from loraudit.metadata.judge import Trace
from loraudit.metadata.names import instance, is_person, subject
from loraudit.metadata.quotes import quote, quoted

__all__ = ["side_traces"]

_AUTHORS: Final = frozenset({"Artist", "Author", "CameraOwnerName", "Copyright", "XPAuthor", "creator"})
"""Keys of a picture's texts in `pictures` that name somebody."""
_SERIALS: Final = frozenset({"BodySerialNumber", "LensSerialNumber"})
_PROMPTS: Final = frozenset(
    {
        "Comment", "Description", "ImageDescription", "Title", "UserComment", "XPComment", "XPKeywords",
        "XPSubject", "XPTitle", "description", "keywords", "parameters", "prompt", "title", "workflow",
    }
)  # fmt: skip
"""Keys of captions, of notes, and of the prompts of AUTOMATIC1111, ComfyUI and others."""
_MACHINE_KEYS: Final = re.compile(
    r"XMP$|Software|[Cc]reation|[Dd]ate|(?:[a-z]{2,6}|Thumb):|Raw profile|iCC|Lora hashes"
)
"""Starts of keys of what programs and cameras write of every picture, and of whole packets of XMP."""
_PROGRAMS: Final = re.compile(
    r"CREATOR: gd-jpeg|Created with |Lavc|File (?:written|source)|LEAD Technologies|Optimized |Software:|"
    r"Screenshot$|[A-Z ]{0,20}(?:DIGITAL CAMERA|DSC)$"
)
"""Starts of comments and descriptions that programs and cameras write of every picture."""


def side_traces(exposure: Exposure) -> Iterator[Trace]:
    """Yield the traces in pictures and captions that their patterns alone do not tell."""
    for said in exposure.said:
        if said.place == CAPTION:
            yield from quoted("LA-CAPTION-001", Severity.MEDIUM, CAPTION, said.text)
        elif said.place in TEXT_SIDES:
            yield from quoted("LA-CAPTION-002", Severity.LOW, said.place, said.text)
        elif said.place in {PICTURE, INSIDE, IN_SIDES}:
            yield from _picture(said.place, said.key, said.text)
    beside = exposure.beside
    for name in beside.pictures:
        yield Trace("LA-IMAGE-002", Severity.LOW, FOLDER, quote(name), Confidence.LOW, beside=True)
    yield from _folders(beside.pictures)
    for name in beside.archives:
        yield Trace("LA-BESIDE-001", Severity.MEDIUM, FOLDER, quote(name), beside=True)
    for place, located in ((PICTURE, beside.located), *((one.place, one.located) for one in exposure.inside)):
        if located:
            # Where that was stays untold: a report must not be the next leak.
            yield Trace("LA-IMAGE-003", Severity.MEDIUM, place, numbers={"pictures": located})
    for name in beside.pickles:
        yield Trace("LA-PICKLE-001", Severity.MEDIUM, PICKLES, quote(name), beside=True)
    for place in (*beside.unread, *(one.place for one in exposure.inside if one.unread)):
        yield Trace("LA-HIDDEN-002", Severity.INCONCLUSIVE, place)


def _folders(pictures: tuple[str, ...]) -> Iterator[Trace]:
    """Find whom the folders of pictures are named after, as kohya wants them: `10_jane doe person`."""
    folders = dict.fromkeys(part for name in pictures for part in name.split("/")[:-1])
    for folder in folders:
        name = instance(folder)
        if name != folder and subject(name):
            severity = Severity.HIGH if is_person(name) else Severity.MEDIUM
            yield Trace("LA-NAME-001", severity, FOLDER, quote(name), beside=True)


def _picture(place: str, key: str, text: str) -> Iterator[Trace]:
    if key == "person":
        if subject(text):
            yield Trace("LA-NAME-001", Severity.HIGH, place, quote(text))
    elif key in _AUTHORS:
        yield from quoted("LA-CONTACT-001", Severity.LOW, place, text)
    elif key in _SERIALS:
        yield from quoted("LA-LINK-001", Severity.LOW, place, text)
    elif not _PROGRAMS.match(text) and (key in _PROMPTS or _is_own(key, text)):
        for prompt in prompts(text):
            yield from quoted("LA-CAPTION-002", Severity.LOW, place, prompt)


def _is_own(key: str, text: str) -> bool:
    """Tell whether a picture's text under a key that is no prompt's is a table or words in a row."""
    bare = text.strip()
    said = bare[:1] in {"{", "["} or (" " in bare and bool(subject(bare)))
    return said and not _MACHINE_KEYS.match(key)

"""Pictures inside texts, as base64 or data URLs: their words, read as those of pictures beside a LoRA are."""

import re
from base64 import b64decode
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from loraudit.metadata.beside import IN_SIDES, INSIDE, PICTURE, Said
from loraudit.metadata.entries import value_of
from loraudit.metadata.patterns import may_hold_picture, picture_type

__all__ = ["Inside", "look_inside"]

_PICTURES: Final = 100
"""Limit on the pictures that are looked into: trainers write one."""
_DATA_URL: Final = re.compile(r"data:[^,]{0,200},", re.IGNORECASE)
_BETWEEN: Final = re.compile(r"[^A-Za-z0-9+/]+")


class Inside(NamedTuple):
    """Words of the pictures inside texts."""

    place: str
    """Place in words of ours: `INSIDE` or `IN_SIDES`."""
    said: tuple[Said, ...]
    pictures: int
    """Number of pictures."""
    located: int
    """Number of pictures that say where they were taken."""
    unread: int
    """Number of pictures of which not all was read."""
    unknown: int
    """Number of pictures of no format that is read, or past the first hundred."""
    pixels: int
    """Number of pictures whose pixels may hide a prompt and were not looked at."""


def look_inside(texts: Iterable[Said]) -> tuple[Inside, ...]:
    """Read the words of the pictures in `texts`, those of the header and those of side files apart."""
    found: dict[str, dict[str, None]] = {}
    for said in texts:
        if said.place != PICTURE:
            place = INSIDE if said.place == "header" else IN_SIDES
            for text in _pictures(said):
                found.setdefault(place, {})[text] = None
    return tuple(_looked(place, list(pictures)) for place, pictures in found.items())


def _looked(place: str, found: list[str]) -> Inside:
    # Few files have pictures in them, and each scan pays for what it loads.
    from loraudit.metadata.pictures import picture_of

    looked = [picture_of(_bytes(text)) for text in found[:_PICTURES]]
    known = [picture for picture in looked if picture is not None]
    return Inside(
        place,
        tuple(Said(place, key, text) for picture in known for key, text in picture.texts),
        len(found),
        sum(picture.located for picture in known),
        sum(not picture.whole for picture in known),
        len(found) - len(known),
        sum(picture.pixels for picture in known),
    )


def _pictures(said: Said) -> Iterator[str]:
    if picture_type(said.text) is not None:
        yield said.text
    elif may_hold_picture(said.text):
        value = value_of(said)
        yield from (text for _, text in value.texts if text in value.pictures)


def _bytes(text: str) -> bytes:
    """Decode a picture's text, whatever stands between its letters."""
    url = _DATA_URL.match(text)
    text = text[url.end() :] if url else text
    if url and not url[0][:-1].lower().endswith(";base64"):
        return unquote_to_bytes(text)
    letters = _BETWEEN.sub("", text.replace("-", "+").replace("_", "/"))
    # A single letter at the end is no byte.
    letters = letters[: len(letters) - (len(letters) % 4 == 1)]
    return b64decode(letters + "=" * (-len(letters) % 4))

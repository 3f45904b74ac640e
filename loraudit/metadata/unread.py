"""Gaps of the metadata audit: what lies in or beside a LoRA and was not looked at."""

from collections.abc import Iterator
from typing import Final

from loraudit.findings.report import Gap
from loraudit.metadata.beside import PICTURE
from loraudit.metadata.exposure import Exposure

__all__ = ["gaps"]

_NOT_ALL: Final = "not all of it could be read"


def gaps(exposure: Exposure) -> tuple[Gap, ...]:
    """List what in and beside the LoRA was not looked at."""
    beside = exposure.beside
    found = [Gap(place, _NOT_ALL) for place in beside.unread]
    found += _pictures(PICTURE, len(beside.pictures), beside.unknown, beside.pixels)
    for inside in exposure.inside:
        found += [Gap(inside.place, _NOT_ALL)] if inside.unread else []
        found += _pictures(inside.place, inside.pictures, inside.unknown, inside.pixels)
    return tuple(found)


def _pictures(place: str, pictures: int, unknown: int, pixels: int) -> Iterator[Gap]:
    if unknown:
        yield Gap(place, f"{unknown} of {pictures} are of a format that is not read; look at them yourself")
    if pixels:
        why = f"those of {pixels} of {pictures}, in whose lowest bits a prompt may hide; save them as JPEG"
        yield Gap(f"the pixels of {place}", why)

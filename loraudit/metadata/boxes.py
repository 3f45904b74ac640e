"""Exif and XMP of HEIC and AVIF files, which are boxes in boxes.

Pillow reads AVIF only where it was built with libavif, which is then handed the whole file. For HEIC,
Pillow needs a plugin with decoders of several megabytes. Layouts: ISO/IEC 14496-12 (boxes) and 23008-12
(items).
"""

import io
import struct
from collections.abc import Container, Iterator
from typing import IO, Final, Literal

from loraudit.metadata.bounds import Bounds, Part

__all__ = ["BRANDS", "items"]

BRANDS: Final = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis"}
)
"""Brands by which files of either format name themselves."""
_BOXES: Final = 100_000
_EXTENTS: Final = 64
"""Limit on the pieces of one item of a HEIC or AVIF file, which has one."""


def items(file: IO[bytes], bounds: Bounds) -> Iterator[Part]:
    """Find the Exif and XMP items of a HEIC or AVIF file, at the places that its `iloc` box names."""
    meta = next((bounds.block(file, length) for kind, length in _boxes(file) if kind == b"meta"), b"")
    inner = io.BytesIO(meta)
    inner.seek(4)
    boxes = {kind: inner.read(length) for kind, length in _boxes(inner)}
    wanted = _described(boxes.get(b"iinf", b""))
    for item, in_meta, extents in _places(boxes.get(b"iloc", b""), wanted.keys(), bounds):
        source: IO[bytes] = io.BytesIO(boxes.get(b"idat", b"")) if in_meta else file
        data = b""
        for offset, length in extents:
            source.seek(min(offset, 1 << 62))
            bounds.whole &= length > 0  # all that is left of the file, pixels included
            data += bounds.block(source, length)
        if wanted[item] == "exif":
            # Before the block of Exif stands its distance.
            data = data[4 + int.from_bytes(data[:4], "big") :]
        yield Part(wanted[item], "", data)


def _boxes(file: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Yield type and length in bytes of each box from here; `file` stands at its content."""
    for _ in range(_BOXES):
        head = file.read(8)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head)
        length -= 8
        if length == 1 - 8:
            length = int.from_bytes(file.read(8), "big") - 16
        here = file.tell()
        if not 0 <= length < 1 << 62:  # to the end of the file, where only pixels are, or none at all
            return
        yield kind, length
        file.seek(here + length)


def _described(iinf: bytes) -> dict[int, Literal["exif", "xmp"]]:
    """List number and kind of each item that holds words."""
    found: dict[int, Literal["exif", "xmp"]] = {}
    inner = io.BytesIO(iinf)
    inner.seek(6 if iinf[:1] == b"\0" else 8)
    for kind, length in _boxes(inner):
        entry = inner.read(length)
        if kind != b"infe" or entry[:1] not in {b"\2", b"\3"}:
            continue
        wide = 4 if entry[0] == 3 else 2
        item, rest = int.from_bytes(entry[4 : 4 + wide], "big"), entry[6 + wide :]
        if rest[:4] == b"Exif":
            found[item] = "exif"
        elif rest[:4] == b"mime" and b"\0application/rdf+xml" in rest:
            found[item] = "xmp"
    return found


def _places(
    iloc: bytes, wanted: Container[int], bounds: Bounds
) -> Iterator[tuple[int, bool, list[tuple[int, int]]]]:
    """Yield the number of each wanted item, whether `idat` holds it, and offset and length of its pieces."""
    if len(iloc) < 6:
        return
    version, at = iloc[0], 6
    sizes = iloc[4] >> 4, iloc[4] & 15, iloc[5] >> 4, iloc[5] & 15 if version else 0
    offset_size, length_size, base_size, index_size = sizes
    wide = 4 if version == 2 else 2

    def number(size: int) -> int:
        nonlocal at
        at += size
        return int.from_bytes(iloc[at - size : at], "big")

    for _ in range(number(wide)):
        item = number(wide)
        in_meta = number(2) & 15 == 1 if version else False
        number(2)
        base = number(base_size)
        count = number(2)
        if at > len(iloc):
            bounds.whole = False
            return
        if item not in wanted:
            at += count * (index_size + offset_size + length_size)
            continue
        if count > _EXTENTS:
            bounds.whole = False
            return
        extents = []
        for _ in range(count):
            number(index_size)
            offset = base + number(offset_size)
            extents.append((offset, number(length_size)))
        yield item, in_meta, extents

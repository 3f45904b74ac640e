"""What a picture beside a LoRA says in words: PNG text, EXIF and XMP, by hand. No pixel is ever decoded.

Layouts: PNG 3rd edition, 11.3.3 (`tEXt`, `zTXt`, `iTXt`) and 11.3.5.2 (`eXIf`); JPEG markers of ITU-T T.81,
annex B, with Exif and XMP in `APP1`; WebP container specification (`EXIF`, `XMP `); Exif 2.32, 4.6.
"""

import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

__all__ = ["Picture", "read_picture"]

_MOST: Final = 1_000_000
"""Bytes of all texts of a picture together, unpacked."""
_READ: Final = 4_000_000
"""Bytes of a picture that are read, packed."""
_CHUNKS: Final = 100_000
_ENTRIES: Final = 200
"""Of one directory of Exif, which has a few dozen."""

_TAGS: Final = {
    0x010E: "ImageDescription", 0x013B: "Artist", 0x8298: "Copyright", 0x9C9B: "XPTitle", 0x9C9C: "XPComment",
    0x9C9D: "XPAuthor", 0x9C9E: "XPKeywords", 0x9C9F: "XPSubject", 0x9286: "UserComment",
    0xA430: "CameraOwnerName", 0xA431: "BodySerialNumber", 0xA435: "LensSerialNumber",
}  # fmt: skip
_EXIF_DIRECTORY, _GPS_DIRECTORY = 0x8769, 0x8825
_LATITUDE, _LONGITUDE = 2, 4
_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1}
"""Bytes of a value of each type of Exif that is looked at."""
_WANTED: Final = frozenset({*_TAGS, _EXIF_DIRECTORY, _GPS_DIRECTORY, _LATITUDE, _LONGITUDE})
_ORDERS: Final = {b"II*\0": "<", b"MM\0*": ">"}
_XMP: Final = re.compile(
    r"<dc:(creator|description|title)>\s{0,80}<rdf:(?:Seq|Alt|Bag)>\s{0,80}<rdf:li[^<>]{0,80}>([^<]{1,1000})<"
)
_XMP_KEY: Final = "XML:com.adobe.xmp"


@dataclass(frozen=True)
class Picture:
    """The words of one picture, as it says them: hostile text."""

    texts: tuple[tuple[str, str], ...]
    """Key (of a text chunk, or the name of the Exif tag or XMP property) and text."""
    located: bool
    """Whether it says where it was taken."""
    whole: bool
    """Whether all its texts are here: none was too long, and none broke off."""


class _Reader:
    """Texts as they are found, within the limits."""

    def __init__(self) -> None:
        self.texts: list[tuple[str, str]] = []
        self.located = False
        self.whole = True
        self._left = _MOST
        self._unread = _READ
        self._has_exif = False

    def add(self, key: str, data: bytes, encoding: str) -> None:
        self.whole &= len(data) <= self._left
        kept = data[: self._left]
        self._left -= len(kept)
        text = kept.decode(encoding, "replace").strip("\0 \r\n\t\ufeff")
        if text:
            self.texts.append((key, text))

    def block(self, file: BinaryIO, length: int) -> bytes:
        """`length` bytes of `file` from here, or none if they are too many."""
        if length > self._unread:
            self.whole = False
            file.seek(length, 1)
            return b""
        data = file.read(length)
        self._unread -= len(data)
        self.whole &= len(data) == length
        return data

    def unpack(self, data: bytes) -> bytes:
        """What zlib packed, at most as much as may still be kept."""
        stream = zlib.decompressobj()
        try:
            unpacked = stream.decompress(data, self._left + 1)
        except zlib.error:
            # Else a thousand streams that break off at their end would take the time of as many sound ones.
            self.whole, self._left = False, 0
            return b""
        self.whole &= stream.eof
        return unpacked

    def xmp(self, data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        self.located |= "exif:GPSLatitude" in text
        for match in _XMP.finditer(text):
            self.add(match[1], match[2].encode(), "utf-8")
        self.add("XMP", data, "utf-8")

    def exif(self, data: bytes) -> None:
        data = data.removeprefix(b"Exif\0\0")
        order = _ORDERS.get(data[:4])
        if order is None or len(data) < 8 or self._has_exif:
            self.whole &= not data
            return
        self._has_exif = True
        main = self._directory(data, order, struct.unpack_from(f"{order}I", data, 4)[0])
        for pointer in (_EXIF_DIRECTORY, _GPS_DIRECTORY):
            if len(main.get(pointer, b"")) == 4:
                start = struct.unpack(f"{order}I", main.pop(pointer))[0]
                inner = self._directory(data, order, start)
                if pointer == _EXIF_DIRECTORY:
                    main |= {tag: inner[tag] for tag in inner if tag in _TAGS}
                else:
                    places = [inner.get(tag, b"") for tag in (_LATITUDE, _LONGITUDE)]
                    # Programs that take the place away often leave the directory, or zeros, behind.
                    self.located |= all(len(place) == 24 for place in places) and any(map(_is_place, places))
        for tag, value in main.items():
            key = _TAGS.get(tag)
            if key == "UserComment":
                self.add(key, value[8:], _wide(value[8:]) if value.startswith(b"UNICODE\0") else "utf-8")
            elif key is not None:
                self.add(key, value, "utf-16-le" if key.startswith("XP") else "utf-8")

    def _directory(self, data: bytes, order: str, start: int) -> dict[int, bytes]:
        """Bytes of the first value of each tag in the directory at `start` that is looked at."""
        found: dict[int, bytes] = {}
        if start + 2 > len(data):
            self.whole = False
            return found
        count = struct.unpack_from(f"{order}H", data, start)[0]
        end = start + 2 + 12 * count
        self.whole &= count <= _ENTRIES and end <= len(data)
        for at in range(start + 2, min(end, len(data) - 11), 12)[:_ENTRIES]:
            tag, kind, many, place = struct.unpack_from(f"{order}HHII", data, at)
            size = many * _SIZES.get(kind, 0)
            if tag in found or tag not in _WANTED:
                continue
            if size <= 4:
                place = at + 8
            self.whole &= place + size <= len(data)
            found[tag] = data[place : place + size]
        return found


def read_picture(path: Path) -> Picture | None:
    """The words of the picture at `path`; None if it is neither PNG nor JPEG nor WebP.

    Reads headers and texts only, at most a few megabytes of them. An `OSError` passes through.
    """
    reader = _Reader()
    with path.open("rb") as file:
        start = file.read(12)
        if start.startswith(b"\x89PNG\r\n\x1a\n"):
            file.seek(8)
            _png(file, reader)
        elif start.startswith(b"\xff\xd8\xff"):
            file.seek(2)
            _jpeg(file, reader)
        elif start[:4] == b"RIFF" and start[8:] == b"WEBP":
            _webp(file, reader)
        else:
            return None
    return Picture(tuple(reader.texts), reader.located, reader.whole)


def _png(file: BinaryIO, reader: _Reader) -> None:
    for _ in range(_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IEND":
            return
        if kind not in {b"tEXt", b"zTXt", b"iTXt", b"eXIf"}:
            file.seek(length + 4, 1)
            continue
        data = reader.block(file, length)
        file.seek(4, 1)
        if kind == b"eXIf":
            reader.exif(data)
        else:
            _png_text(kind, data, reader)
    reader.whole = False


def _png_text(kind: bytes, data: bytes, reader: _Reader) -> None:
    keyword, _, rest = data.partition(b"\0")
    key = keyword[:79].decode("latin-1")
    if kind == b"tEXt":
        # AUTOMATIC1111 and others write UTF-8 where the format asks for Latin-1.
        encoding = "utf-8" if _is_utf8(rest) else "latin-1"
        reader.add(key, rest, encoding)
    elif kind == b"zTXt":
        reader.add(key, reader.unpack(rest[1:]), "latin-1")
    else:
        # Whether it is packed, how, the language, the keyword in that language.
        text = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
        if rest[:1] == b"\1":
            text = reader.unpack(text)
        if key == _XMP_KEY:
            reader.xmp(text)
        else:
            reader.add(key, text, "utf-8")


def _jpeg(file: BinaryIO, reader: _Reader) -> None:
    for _ in range(_CHUNKS):
        head = file.read(2)
        # After the start of a scan come the pixels.
        if len(head) < 2 or head[0] != 0xFF or head[1] in {0xD9, 0xDA}:
            return
        if head[1] == 0xFF:  # a byte to fill up
            file.seek(-1, 1)
            continue
        length = int.from_bytes(file.read(2), "big") - 2
        if length < 0:
            return
        if head[1] not in {0xE1, 0xFE}:
            file.seek(length, 1)
            continue
        data = reader.block(file, length)
        if head[1] == 0xFE:
            reader.add("Comment", data, "utf-8" if _is_utf8(data) else "latin-1")
        elif data.startswith(b"Exif\0\0"):
            reader.exif(data)
        elif data.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            reader.xmp(data.partition(b"\0")[2])
    reader.whole = False


def _webp(file: BinaryIO, reader: _Reader) -> None:
    for _ in range(_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            return
        kind, length = struct.unpack("<4sI", head)
        if kind in {b"EXIF", b"XMP "}:
            data = reader.block(file, length)
            (reader.exif if kind == b"EXIF" else reader.xmp)(data)
            file.seek(length % 2, 1)
        else:
            file.seek(length + length % 2, 1)
    reader.whole = False


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _wide(data: bytes) -> str:
    """Which UTF-16 it is: programs do not agree whether that of the block or always the same."""
    return "utf-16-be" if data[::2].count(0) > data[1::2].count(0) else "utf-16-le"


def _is_place(fractions: bytes) -> bool:
    """Whether a coordinate, degrees, minutes and seconds as fractions, is any but zero."""
    return any(fractions[at : at + 4] != bytes(4) for at in (0, 8, 16))

"""Words of a picture in or beside a LoRA: Exif, TIFF tags and IPTC, as Pillow reads them, and XMP.

No decoder of pictures ever runs. Layouts: Exif 2.32, 4.6; IPTC-IIM 4.2.
"""

import io
import math
import re
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from PIL.ExifTags import GPS, IFD, Base
from PIL.IptcImagePlugin import getiptcinfo
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from PIL.TiffTags import BYTE

from loraudit.metadata.bounds import Bounds, Part
from loraudit.metadata.containers import parts
from loraudit.metadata.xmp import PLACE, properties

__all__ = ["Picture", "packet_of", "picture_of", "read_picture"]

_BLOCKS: Final = 8
"""Limit on blocks of Exif and of IPTC in one picture, which has one of each."""
_ENTRIES: Final = 1_000
"""Limit on tags of one directory, which has a few dozen."""
_PAGES: Final = 100
"""Limit on directories of a TIFF file."""
_TAG_BYTES: Final = 8_000_000
"""Limit in bytes on what Pillow reads of one block of Exif or of one TIFF file."""

_TAGS: Final = (
    Base.ImageDescription, Base.Artist, Base.Copyright, Base.XPTitle, Base.XPComment, Base.XPAuthor,
    Base.XPKeywords, Base.XPSubject, Base.UserComment, Base.CameraOwnerName, Base.BodySerialNumber,
    Base.LensSerialNumber, Base.Make, Base.Model,
)  # fmt: skip
_UTF_16: Final = b"UNICODE\0"
_CODES: Final = frozenset({b"ASCII\0\0\0", _UTF_16, b"JIS\0\0\0\0\0", bytes(8)})
"""Names of character sets before a user's comment."""
_CAMERA: Final = frozenset({Base.Make, Base.Model})
_EXTRA_SAMPLES: Final = 338
_WORKFLOW: Final = re.compile(r"(prompt|workflow|parameters): ?(?=\S)", re.IGNORECASE)
"""Prefix of ComfyUI's graph in tags of Exif, the camera's among them."""
_IPTC: Final = {
    (2, 5): "title", (2, 25): "keywords", (2, 40): "description", (2, 80): "creator", (2, 105): "title",
    (2, 110): "creator", (2, 116): "Copyright", (2, 118): "creator", (2, 120): "description",
    (2, 122): "creator",
}  # fmt: skip
_IPTC_PLACES: Final = frozenset({(2, 90), (2, 92)})
"""Fields of a city and of a place in a city."""
_IPTC_RESOURCE: Final = b"Photoshop 3.0\0"
_PEOPLE: Final = re.compile(r"(?:People|Persons?|Faces)[|/](.+)", re.IGNORECASE | re.DOTALL)
"""Branch of a person in the trees of keywords of digiKam and Lightroom."""


@dataclass(frozen=True)
class Picture:
    """Words of one picture as they stand there: hostile text."""

    texts: tuple[tuple[str, str], ...]
    """Key (of a text chunk, the name of an Exif tag, an XMP property, or `person`) and text."""
    located: bool
    """True if the picture says where it was taken."""
    whole: bool
    """True if all texts are here: none was too long, and none broke off."""
    pixels: bool = False
    """True if the pixels may hide a prompt and were not looked at."""


class _TooMuchError(Exception):
    """Request of Pillow for more bytes than a picture's tags may hold."""


class _Tags(io.BufferedReader):
    """File of tags of which only so many bytes can be read, wherever its tags point."""

    def __init__(self, raw: Any) -> None:  # noqa: ANN401 (a file or bytes, whose types share no class)
        super().__init__(raw)
        self._left = _TAG_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as any file does. Raises `_TooMuchError`."""
        data = super().read(self._left + 1 if size is None or size < 0 else min(size, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise _TooMuchError
        return data


class _Words:
    """Words of one picture as they are found."""

    def __init__(self, bounds: Bounds) -> None:
        self.texts: list[tuple[str, str]] = []
        self.located = False
        self.bounds = bounds
        self._blocks = {"exif": _BLOCKS, "iptc": _BLOCKS, "tiff": 1}

    def take(self, part: Part, again: Callable[[], Any]) -> None:
        """Read `part` of the picture that `again` opens as a file without a buffer."""
        if part.kind == "text":
            self._add(part.key, _decoded(self.bounds.keep(part.data)))
        elif part.kind == "xmp":
            self._xmp(self.bounds.keep(part.data).decode("utf-8", "replace"))
        elif part.kind == "tiff":
            with again() as file:
                self._guarded(lambda: self._directories(_Tags(file), _PAGES))
        elif part.data:
            self._blocks[part.kind] -= 1
            if self._blocks[part.kind] < 0:
                self.bounds.whole = False
            elif part.kind == "exif":
                tags = part.data.removeprefix(b"Exif\0\0")
                self._guarded(lambda: self._directories(_Tags(io.BytesIO(tags)), 1))
            else:
                self._guarded(lambda: self._iptc(part.data))

    def _guarded(self, read: Callable[[], None]) -> None:
        """Run `read`, which hands hostile bytes to Pillow; if that raises or warns, not all was read."""
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                read()
            except Exception:  # Pillow raises whatever its parsers stumble over, SyntaxError included
                self.bounds.whole = False
        self.bounds.whole &= not any(issubclass(item.category, UserWarning) for item in warned)

    def _add(self, key: str, text: str) -> None:
        text = text.strip("\0 \r\n\t\ufeff")
        if text:
            self.texts.append((key, text))

    def _directories(self, file: _Tags, pages: int) -> None:
        """Read at most `pages` directories of the tags in `file`, one after the other."""
        head = file.read(8)
        if head[2:3] == b"\x2b" or head[3:4] == b"\x2b":
            head += file.read(8)
        start = ImageFileDirectory_v2(head).next
        seen: set[int] = set()
        for _ in range(pages):
            if not start or start in seen:
                return
            seen.add(start)
            directory = self._directory(file, head, start)
            inner = {}
            for pointer in (IFD.Exif, IFD.GPSInfo):
                place = directory.get(pointer)
                if isinstance(place, int):
                    inner[pointer] = self._directory(file, head, place, pointer)
            self._tags(directory, inner.get(IFD.Exif))
            gps = inner.get(IFD.GPSInfo)
            if gps is not None:
                latitude, longitude = gps.get(GPS.GPSLatitude), gps.get(GPS.GPSLongitude)
                # Programs that take the place away often leave the directory, or zeros, behind.
                told = latitude is not None and longitude is not None
                self.located |= told and (_is_place(latitude) or _is_place(longitude))
            start = directory.next
        self.bounds.whole &= pages == 1 or not start

    def _directory(
        self, file: _Tags, head: bytes, start: int, group: int | None = None
    ) -> ImageFileDirectory_v2:
        directory = ImageFileDirectory_v2(head, group=group)
        directory.next = 0
        file.seek(start)
        wide = 8 if len(head) == 16 else 2
        if int.from_bytes(file.read(wide), "little" if head[:1] == b"I" else "big") > _ENTRIES:
            self.bounds.whole = False
            return directory
        file.seek(start)
        directory.load(file)
        return directory

    def _tags(self, main: ImageFileDirectory_v2, exif: ImageFileDirectory_v2 | None) -> None:
        for tag in _TAGS:
            for directory in filter(None, (main, exif)):
                if tag not in directory:
                    continue
                data = self.bounds.keep(_raw(directory, tag))
                if tag is Base.UserComment:
                    code, data = (data[:8], data[8:]) if data[:8] in _CODES else (b"", data)
                    text = data.decode(_wide(data), "replace") if code == _UTF_16 else _decoded(data)
                else:
                    text = data.decode("utf-16-le", "replace") if tag.name[:2] == "XP" else _decoded(data)
                graph = _WORKFLOW.match(text)
                if graph:
                    self._add(graph[1].lower(), text[graph.end() :])
                elif tag not in _CAMERA:
                    self._add(tag.name, text)
                break
        self.bounds.pixels |= _EXTRA_SAMPLES in main
        if Base.XMLPacket in main:
            packet = self.bounds.keep(_raw(main, Base.XMLPacket))
            self._xmp(packet.decode("utf-8", "replace"))
        if Base.ImageResources in main:
            self._iptc(_raw(main, Base.ImageResources))
        if Base.IPTCNAA in main:
            data = _raw(main, Base.IPTCNAA)
            self._iptc(b"8BIM\x04\x04\0\0" + struct.pack(">I", len(data)) + data)

    def _iptc(self, resources: bytes) -> None:
        """Read IPTC in blocks of Photoshop's resources, which Pillow takes from a JPEG picture only."""
        data = _IPTC_RESOURCE + resources.removeprefix(_IPTC_RESOURCE)
        self.bounds.whole &= len(data) <= 0xFFFF - 2
        data = data[: 0xFFFF - 2]
        one_pixel = b"\xff\xc0\0\x0b\x08\0\1\0\1\1\1\x11\0\xff\xda\0\2"
        picture = JpegImageFile(
            io.BytesIO(b"\xff\xd8\xff\xed" + struct.pack(">H", len(data) + 2) + data + one_pixel)
        )
        for field, value in (getiptcinfo(picture) or {}).items():
            for item in value if isinstance(value, list) else [value]:
                if item and field in _IPTC_PLACES:
                    self.located = True
                elif item and field in _IPTC:
                    self._named(_IPTC[field], _decoded(item))

    def _xmp(self, packet: str) -> None:
        self.located |= "exif:GPSLatitude" in packet
        for key, words in properties(packet):
            if key == PLACE:
                self.located = True
            else:
                self._named(key, words)
        self._add("XMP", packet)

    def _named(self, key: str, text: str) -> None:
        person = _PEOPLE.fullmatch(text.strip()) if key == "keywords" else None
        text = person[1] if person else text
        kept = self.bounds.keep(text.encode("utf-8", "replace")).decode("utf-8", "ignore")
        self._add("person" if person else key, kept)


def read_picture(path: Path) -> Picture | None:
    """Read the words of the picture at `path`; None if it is of no format that `parts` knows.

    Reads headers and texts only, at most a few megabytes of them. An `OSError` passes through.
    """
    with path.open("rb") as file:
        return _read(file, lambda: path.open("rb", buffering=0))


def picture_of(data: bytes) -> Picture | None:
    """Read the words of the picture that `data` are; None if it is of no format that `parts` knows."""
    return _read(io.BytesIO(data), lambda: io.BytesIO(data))


def packet_of(text: str) -> Picture:
    """Read the words of the packet of XMP `text`, which photo programs also write beside the picture."""
    words = _Words(Bounds())
    words.take(Part("xmp", "", text.encode("utf-8", "replace")), io.BytesIO)
    return Picture(tuple(words.texts), words.located, words.bounds.whole)


def _read(file: IO[bytes], again: Callable[[], Any]) -> Picture | None:
    bounds = Bounds()
    found = parts(file, bounds)
    if found is None:
        return None
    words = _Words(bounds)
    for part in found:
        words.take(part, again)
    return Picture(tuple(words.texts), words.located, bounds.whole, bounds.pixels)


def _decoded(data: bytes) -> str:
    """Decode UTF-8, which most programs write, whatever the format asks for, or else Latin-1."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _raw(directory: ImageFileDirectory_v2, tag: int) -> bytes:
    """Take a tag's bytes; Pillow itself takes all text for Latin-1, and keeps the first of several values."""
    directory.tagtype[tag] = BYTE
    data = directory[tag]
    return data if isinstance(data, bytes) else b""


def _wide(data: bytes) -> str:
    """Tell the byte order of UTF-16 `data`: some programs write that of the block, some always the same."""
    return "utf-16-be" if data[::2].count(0) > data[1::2].count(0) else "utf-16-le"


def _is_place(coordinate: object) -> bool:
    """Tell whether a coordinate, in degrees, minutes and seconds, differs from zero."""
    if isinstance(coordinate, str):
        return re.search("[1-9]", coordinate) is not None
    values = coordinate if isinstance(coordinate, tuple) else (coordinate,)
    numbers = [float(value) for value in values if hasattr(value, "__float__")]
    return any(math.isfinite(number) and number != 0 for number in numbers)

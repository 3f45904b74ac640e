"""Parts of a picture file that hold words: PNG, JPEG, WebP, GIF, TIFF, HEIC and AVIF.

Pillow reads the content of the parts; the files are walked here. Pillow's openers want sound pixels and stop
at the first of them. Of equal keys they keep one text, and WebP and AVIF go whole to native decoders.

Layouts: PNG 3rd edition, 11.3.3 and 11.3.5.2; JPEG markers of ITU-T T.81, annex B; WebP container
specification; GIF89a.
"""

import struct
from collections.abc import Iterator
from typing import IO, Final

from loraudit.metadata.bounds import Bounds, Part
from loraudit.metadata.boxes import BRANDS, items
from loraudit.metadata.pixels import hidden_text

__all__ = ["parts"]

_CHUNKS: Final = 100_000
_SUB_BLOCKS: Final = 1_000_000
"""Limit on the sub-blocks of a GIF, at most 255 bytes each."""
_XMP_KEY: Final = "XML:com.adobe.xmp"
_HEX_PROFILE: Final = "Raw profile type "
"""Key under which ImageMagick and exiftool write other formats' metadata into PNG text, as hex."""
_XMP_SEGMENT: Final = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_EXTENSION: Final = b"http://ns.adobe.com/xmp/extension/\0"
_EXTENSION_HEAD: Final = len(_XMP_EXTENSION) + 40


def parts(file: IO[bytes], bounds: Bounds) -> Iterator[Part] | None:
    """Find the parts of the picture `file`, from its start; None if it is of no format listed above."""
    start = file.read(13)
    file.seek(0)
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(file, bounds)
    if start.startswith(b"\xff\xd8\xff"):
        return _jpeg(file, bounds)
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return _webp(file, bounds)
    if start[:6] in {b"GIF87a", b"GIF89a"} and len(start) == 13:
        return _gif(file, bounds)
    if start[:4] in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}:
        return iter([Part("tiff", "", b"")])
    if start[4:8] == b"ftyp" and start[8:12] in BRANDS:
        return items(file, bounds)
    return None


def _png(file: IO[bytes], bounds: Bounds) -> Iterator[Part]:
    shape, pixels = b"", 0
    file.seek(8)
    for _ in range(_CHUNKS):
        head = file.read(8)
        length, kind = struct.unpack(">I4s", head) if len(head) == 8 else (0, b"IEND")
        if kind == b"IEND":
            text = hidden_text(file, shape, pixels, bounds) if len(shape) == 13 and pixels else b""
            if text:
                yield Part("text", "parameters", text)
            return
        if kind == b"IHDR" and length == 13:
            shape = bounds.block(file, length)
            file.seek(4, 1)
            continue
        if kind == b"IDAT" and not pixels:
            pixels = file.tell() - 8
        if kind not in {b"tEXt", b"zTXt", b"iTXt", b"eXIf"}:
            file.seek(length + 4, 1)
            continue
        data = bounds.block(file, length)
        file.seek(4, 1)
        if kind == b"eXIf":
            yield Part("exif", "", data)
        else:
            yield _png_text(kind, data, bounds)
    bounds.whole = False


def _png_text(kind: bytes, data: bytes, bounds: Bounds) -> Part:
    keyword, _, text = data.partition(b"\0")
    key = keyword[:79].decode("latin-1")
    if kind == b"zTXt":
        text = bounds.unpack(text[1:])
    elif kind == b"iTXt":
        # Before the text: a flag of packing, its method, the language, the keyword in that language.
        packed, text = text[:1] == b"\1", text[2:].partition(b"\0")[2].partition(b"\0")[2]
        text = bounds.unpack(text) if packed else text
    if key == _XMP_KEY:
        return Part("xmp", "", text)
    profile = key.removeprefix(_HEX_PROFILE).lower() if key.startswith(_HEX_PROFILE) else ""
    if profile not in {"exif", "app1", "xmp", "iptc", "8bim"}:
        return Part("text", key, text)
    try:
        # A line feed, the name, the length, then hex in lines.
        raw = bytes.fromhex(text.split(b"\n", 3)[3].decode("ascii"))
    except (ValueError, IndexError):
        bounds.whole = False
        return Part("text", key, text)
    if profile == "xmp" or raw.startswith(_XMP_SEGMENT):
        return Part("xmp", "", raw.removeprefix(_XMP_SEGMENT))
    return Part("exif" if profile in {"exif", "app1"} else "iptc", "", raw)


def _jpeg(file: IO[bytes], bounds: Bounds) -> Iterator[Part]:
    file.seek(2)
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
        if head[1] not in {0xE1, 0xED, 0xFE}:
            file.seek(length, 1)
            continue
        data = bounds.block(file, length)
        if head[1] == 0xFE:
            yield Part("text", "Comment", data)
        elif head[1] == 0xED:
            yield Part("iptc", "", data)
        elif data.startswith(b"Exif\0\0"):
            yield Part("exif", "", data)
        elif data.startswith(_XMP_SEGMENT):
            yield Part("xmp", "", data.removeprefix(_XMP_SEGMENT))
        elif data.startswith(_XMP_EXTENSION):
            yield Part("xmp", "", data[_EXTENSION_HEAD:])
    bounds.whole = False


def _webp(file: IO[bytes], bounds: Bounds) -> Iterator[Part]:
    file.seek(12)
    for _ in range(_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            return
        kind, length = struct.unpack("<4sI", head)
        if kind in {b"EXIF", b"XMP "}:
            yield Part("exif" if kind == b"EXIF" else "xmp", "", bounds.block(file, length))
            file.seek(length % 2, 1)
        elif kind in {b"VP8X", b"VP8L"} and length >= 5:
            head = file.read(5)
            # A flag of the container, or a bit after the signature and the sizes of lossless pixels.
            bounds.pixels |= _has_alpha(head) if kind == b"VP8L" else bool(head[:1]) and head[0] & 16 > 0
            file.seek(length - 5 + length % 2, 1)
        else:
            file.seek(length + length % 2, 1)
    bounds.whole = False


def _has_alpha(head: bytes) -> bool:
    """Tell whether the pixels of WebP that begin with `head` are lossless and have an alpha channel."""
    return head[:1] == b"\x2f" and len(head) == 5 and bool(head[4] & 16)


def _gif(file: IO[bytes], bounds: Bounds) -> Iterator[Part]:
    file.seek(_color_table(file.read(13)[10]), 1)
    left = _SUB_BLOCKS
    while left > 0:
        left -= 1
        kind = file.read(1)
        if kind == b",":
            place = file.read(9)
            file.seek((_color_table(place[8]) if len(place) == 9 else 0) + 1, 1)
            label = b""
        elif kind == b"!":
            label = file.read(1)
        else:  # the trailer, or nothing that a GIF holds
            return
        pieces = []
        xmp = False
        while left > 0 and (size := file.read(1)) not in {b"", b"\0"}:
            left -= 1
            if label == b"\xfe" or xmp:
                piece = bounds.block(file, size[0])
                # XMP lies in its extension as it is: what reads as sizes are its own characters.
                pieces.append(size + piece if xmp else piece)
            elif label == b"\xff" and size == b"\x0b" and not pieces:
                xmp = file.read(11) == b"XMP DataXMP"
            else:
                file.seek(size[0], 1)
        if xmp:
            yield Part("xmp", "", b"".join(pieces).partition(b"\1\xff\xfe\xfd")[0])
        elif pieces:
            yield Part("text", "Comment", b"".join(pieces))
    bounds.whole = False


def _color_table(flags: int) -> int:
    """Compute the size in bytes of the table of colors that `flags` announce."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0

"""Prompts that programs hide in the lowest bits of a PNG's pixels.

A signature, the length in bits and the text stand bit by bit in the alpha channel or in the colours. They go
column by column (AUTOMATIC1111's stealth PNG info, NovelAI) or row by row. To tell whether there is a
signature takes the first rows, and of those a few pixels. A PNG without a signature costs no more.

Layouts: PNG 3rd edition, 9 (filters) and 10 (compression).
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import IO, Final, NamedTuple

from loraudit.metadata.bounds import Bounds

__all__ = ["hidden_text"]

_SIGNATURE: Final = 15
"""Length in bytes of a signature; some programs add a byte of zero."""
_HEAD: Final = _SIGNATURE + 7
"""Length in bytes of signature, zero, length, and of what gzip begins with."""
_GZIP: Final = b"\x1f\x8b"
_LONGEST: Final = 65_536
"""Limit in bytes on a hidden text, packed where it is packed: prompts have a few thousand."""
_ROWS: Final = 16_000_000
"""Limit in bytes on the first rows, unpacked."""
_WHOLE: Final = 64_000_000
"""Limit in bytes on all rows that hold a text, unpacked: a picture of 16 million pixels."""
_PIECE: Final = 65_536
_CHUNKS: Final = 100_000


class _Channels(NamedTuple):
    """Channels that hold the bits of one text."""

    places: tuple[int, ...]
    """Places of the channels' bytes in a pixel."""
    plain: bytes
    packed: bytes
    """Signatures before a text as it is, and before one that gzip packed."""


class _TooMuchError(Exception):
    """Picture whose pixels are not unpacked."""


@dataclass(frozen=True)
class _Pixels:
    """Pixels of a PNG whose rows have whole bytes for each channel."""

    file: IO[bytes]
    start: int
    """Place of the first chunk of pixels."""
    width: int
    height: int
    step: int
    """Size of a pixel in bytes."""
    channels: tuple[_Channels, ...]

    def needed(self, channels: _Channels, by_columns: bool, length: int) -> tuple[int, int]:
        """Compute the rows and the columns that `length` bytes take."""
        pixels = -(-length * 8 // len(channels.places))
        if by_columns:
            return min(self.height, pixels), -(-pixels // self.height)
        return -(-pixels // self.width), min(self.width, pixels)

    def rows(self, count: int, limit: int) -> bytes:
        """Unpack the first `count` rows, each after the byte of its filter. Raises `_TooMuchError`."""
        wanted = count * (self.width * self.step + 1)
        if wanted > limit:
            raise _TooMuchError
        stream, rows = zlib.decompressobj(), bytearray()
        # Rows that are packed well take less than themselves; blocks of nothing take without end.
        left = 2 * wanted + _PIECE
        for piece in self._packed():
            rows += stream.decompress(piece, wanted - len(rows))
            left -= len(piece)
            if len(rows) >= wanted or stream.eof:
                break
            if left < 0:
                raise _TooMuchError
        return bytes(rows)

    def _packed(self) -> Iterator[bytes]:
        self.file.seek(self.start)
        for _ in range(_CHUNKS):
            head = self.file.read(8)
            if len(head) < 8 or head[4:] != b"IDAT":
                return
            length = int.from_bytes(head[:4], "big")
            while length:
                piece = self.file.read(min(length, _PIECE))
                if not piece:
                    return
                yield piece
                length -= len(piece)
            self.file.seek(4, 1)
        raise _TooMuchError

    def text(self, rows: bytes, channels: _Channels, by_columns: bool, length: int) -> bytes:
        """Take `length` bytes out of the lowest bits; fewer if the rows hold fewer."""
        count, columns = self.needed(channels, by_columns, length)
        wide = self.width * self.step + 1
        if columns > self.width or count * wide > len(rows):
            return b""
        lines = [rows[at : at + wide] for at in range(0, count * wide, wide)]
        planes = [self._plane(lines, place, columns, by_columns) for place in channels.places]
        mixed = bytes(value for pixel in zip(*planes, strict=True) for value in pixel)
        bits = mixed.translate(_LOWEST)[: length * 8]
        return int(bits, 2).to_bytes(length, "big")

    def _plane(self, lines: list[bytes], place: int, columns: int, by_columns: bool) -> bytes:
        """Undo the filters of one channel, whose bytes depend on no other channel."""
        plane: list[bytes] = []
        above = bytes(columns)
        for line in lines:
            above = _unfiltered(line[0], line[1 + place : 1 + columns * self.step : self.step], above)
            plane.append(above)
        if by_columns:
            return b"".join(line[x : x + 1] for x in range(columns) for line in plane)
        return b"".join(plane)


_LOWEST: Final = bytes(b"01"[value & 1] for value in range(256))
_ALPHA: Final = b"stealth_pnginfo", b"stealth_pngcomp"
_COLOURS: Final = b"stealth_rgbinfo", b"stealth_rgbcomp"


def hidden_text(file: IO[bytes], head: bytes, start: int, bounds: Bounds) -> bytes:
    """Find the text in the pixels of a PNG; empty if no program that is known hid any.

    `head` is the content of the picture's header, `start` the place of its first chunk of pixels. What is
    too large to be looked at is marked in `bounds`.
    """
    width, height, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", head)
    size = depth // 8
    if not width or not height or not size or kind not in {2, 4, 6}:
        return b""
    alpha = _Channels(((1 if kind == 4 else 3) * size,), *_ALPHA)
    colours = _Channels((0, size, 2 * size), *_COLOURS)
    channels = {2: (colours,), 4: (alpha,), 6: (alpha, colours)}[kind]
    pixels = _Pixels(file, start, width, height, {2: 3, 4: 2, 6: 4}[kind] * size, channels)
    try:
        if interlaced:
            raise _TooMuchError
        return _found(pixels, bounds)
    except _TooMuchError:
        bounds.pixels = True
    except zlib.error:
        pass  # no program shows these pixels, or what is in them
    return b""


def _found(pixels: _Pixels, bounds: Bounds) -> bytes:
    ways = [(channels, by_columns) for channels in pixels.channels for by_columns in (True, False)]
    first = max(pixels.needed(*way, _HEAD)[0] for way in ways)
    rows = pixels.rows(min(first, pixels.height), _ROWS)
    for channels, by_columns in ways:
        head = pixels.text(rows, channels, by_columns, _HEAD)
        signature = head[:_SIGNATURE]
        if signature in {channels.plain, channels.packed}:
            text = _text(pixels, channels, by_columns, head, bounds)
            bounds.whole &= bool(text)
            return text
    return b""


def _text(pixels: _Pixels, channels: _Channels, by_columns: bool, head: bytes, bounds: Bounds) -> bytes:
    """Read the text after the signature in `head`; empty if it is too long, or none."""
    packed = head[:_SIGNATURE] == channels.packed
    # With a zero after the signature first: without it, what is taken for a length there is far too large.
    for at in (_SIGNATURE + 1, _SIGNATURE):
        begin = at + 4
        length = int.from_bytes(head[at:begin], "big") // 8
        if not 0 < length <= _LONGEST or any(head[_SIGNATURE:at]):
            continue
        if packed and head[begin : begin + 2] != _GZIP:
            continue
        count, columns = pixels.needed(channels, by_columns, begin + length)
        if count > pixels.height or columns > pixels.width:
            continue
        rows = pixels.rows(count, _WHOLE)
        data = pixels.text(rows, channels, by_columns, begin + length)[begin:]
        text = bounds.unpack(data) if packed else data
        if packed or at == _SIGNATURE or _is_text(text):
            return text
    return b""


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _unfiltered(kind: int, line: bytes, above: bytes) -> bytes:
    """Undo the filter `kind` of one channel of a row, of which `above` is the row before."""
    if kind == 1:
        return bytes(total & 255 for total in accumulate(line))
    if kind == 2:
        return bytes((value + up) & 255 for value, up in zip(line, above, strict=True))
    if kind in {3, 4}:
        done = bytearray()
        left = corner = 0
        for value, up in zip(line, above, strict=True):
            guess = (left + up) >> 1 if kind == 3 else _nearest(left, up, corner)
            left, corner = (value + guess) & 255, up
            done.append(left)
        return bytes(done)
    return line


def _nearest(left: int, up: int, corner: int) -> int:
    """Choose of three neighbours the one nearest to left + up - corner, as Paeth does."""
    a, b, c = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
    if a <= b and a <= c:
        return left
    return up if b <= c else corner

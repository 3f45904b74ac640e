"""Part of a picture that holds words, and the limits within which parts are read."""

import zlib
from typing import IO, Final, Literal, NamedTuple

__all__ = ["Bounds", "Part"]

_MOST: Final = 1_000_000
"""Limit in bytes on all texts of a picture together, unpacked."""
_READ: Final = 4_000_000
"""Limit in bytes on the parts of a picture that are read, packed."""
_EITHER: Final = zlib.MAX_WBITS | 32
"""Number by which zlib tells its own format and that of gzip apart."""


class Part(NamedTuple):
    """Part of a picture, as the file has it."""

    kind: Literal["text", "exif", "xmp", "iptc", "tiff"]
    """Kind of content: `iptc` is a Photoshop resource block; `tiff` means that the whole file is tags."""
    key: str
    """Keyword of a text; empty for any other kind."""
    data: bytes


class Bounds:
    """Limits of one picture, with a mark if not all of the picture was read within them."""

    def __init__(self) -> None:
        self.whole = True
        self.pixels = False
        """True once pixels were met that may hide a prompt and are not looked at."""
        self.left = _MOST
        self.unread = _READ

    def keep(self, data: bytes) -> bytes:
        """Count `data` as text that is kept, and cut it where the limit is."""
        self.whole &= len(data) <= self.left
        kept = data[: self.left]
        self.left -= len(kept)
        return kept

    def block(self, file: IO[bytes], length: int) -> bytes:
        """Read `length` bytes of `file`, or skip them and return none if they are too many."""
        if length > self.unread:
            self.whole = False
            file.seek(length, 1)
            return b""
        data = file.read(length)
        self.unread -= len(data)
        self.whole &= len(data) == length
        return data

    def unpack(self, data: bytes) -> bytes:
        """Unpack what zlib or gzip packed, at most as much as may still be kept."""
        stream = zlib.decompressobj(_EITHER)
        try:
            unpacked = stream.decompress(data, self.left + 1)
        except zlib.error:
            # Otherwise a thousand streams that break off at their end would take as long as sound ones.
            self.whole, self.left = False, 0
            return b""
        self.whole &= stream.eof
        return unpacked

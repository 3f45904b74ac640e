"""Files under the name of a safetensors file that are none: what each is, and what to do about it."""

import re
from collections.abc import Iterator
from typing import Final

from loraudit.errors import NotScannable

__all__ = ["lookalike", "truncated"]

_PICKLE: Final = "loraudit never unpickles; ask for the .safetensors file"
_FORMAT: Final = "loraudit reads LoRA files in safetensors format"
_ZIP: Final = b"PK\x03\x04"

# First bytes of files that are no safetensors files, with the name and the hint of each kind.
_KINDS: Final[tuple[tuple[bytes, str, str], ...]] = (
    (
        b"version https://git-lfs",
        "a Git LFS pointer, not the file itself",
        "run `git lfs pull`, or download the file itself",
    ),
    (_ZIP, "a zip archive (such as a .ckpt, .pt or .bin checkpoint with a pickle inside)", _PICKLE),
    (b"\x80", "a Python pickle", _PICKLE),
    (b"GGUF", "a GGUF file", _FORMAT),
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"Rar!\x1a\x07", "a RAR archive", "unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first"),
    (b"# xet version", "a Xet pointer, not the file itself", "download the file itself"),
    (b"\x89PNG", "a PNG picture", "give the .safetensors file"),
    (b"\xff\xd8\xff", "a JPEG picture", "give the .safetensors file"),
    (b"{", "a JSON file", "give the .safetensors file, or the folder that holds it"),
)

_FAILED: Final = "the download failed (log in, or follow the real link)"
_ERROR: Final = re.compile(
    rb'\{\s*"(?:errors?|error_?code|message|detail|details|code|status|statusCode|success|reason|title)"\s*:',
    re.IGNORECASE,
)
"""Start of what a server answers in place of a file; a configuration begins with other words."""
_WORDS: Final = re.compile(rb"[\t\r\n\x20-\x7e]+")
_LISTED: Final = re.compile(rb"PK(?:\x03\x04|\x01\x02)")
"""Start of what a zip archive says of one file in it, before the file or in the list at the end."""
_PIECES: Final = (b"__macosx/", b"._")
"""Starts of names, or of their last part, in small letters: macOS packs notes of its own under them."""


def lookalike(start: bytes, end: bytes, name: str, size: int) -> NotScannable:
    """Make the error for a file of `size` bytes, shown as `name`, that has no safetensors header.

    `start` and `end` are the first and the last bytes of the file. No archive is unpacked.
    """
    head = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if head[:15].lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<error")):
        return NotScannable(f"{name} is a web page, not a LoRA file", _FAILED)
    if _ERROR.match(head):
        return NotScannable(f"{name} is a server's error message in JSON, not a LoRA file", _FAILED)
    if start.startswith(_ZIP) and any(map(_is_weights, (*_packed(start), *_packed(end)))):
        return NotScannable(
            f"{name} is a zip archive with a .safetensors file inside", "unpack it and give the file inside"
        )
    for magic, what, hint in _KINDS:
        if start.startswith(magic) or (magic == b"{" and head.startswith(magic)):
            return NotScannable(f"{name} is {what}", hint)
    if start[257:262] == b"ustar":
        return NotScannable(f"{name} is a tar archive", "unpack it first")
    if len(start) > 8 and _WORDS.fullmatch(start):
        return NotScannable(f"{name} is not a safetensors file but a text", _FAILED)
    if size < 8:
        return truncated(name, size, 8)
    if not any(start):
        return NotScannable(
            f"{name} begins with nothing but zeros", "the download was not finished; repeat it"
        )
    return NotScannable(f"{name} is not a safetensors file", _FORMAT)


def truncated(name: str, size: int, needed: int) -> NotScannable:
    """Make the error for a file of `size` bytes whose header asks for `needed` bytes at least."""
    return NotScannable(
        f"{name} is truncated: {size} bytes of at least {needed}", "download or export it again"
    )


def _packed(data: bytes) -> Iterator[bytes]:
    """Yield the names of the files that a piece of a zip archive tells of (PKWARE's APPNOTE, 4.3)."""
    for found in _LISTED.finditer(data):
        at = found.start()
        length_at, name_at = (at + 26, at + 30) if found[0] == _ZIP else (at + 28, at + 46)
        length = int.from_bytes(data[length_at : length_at + 2], "little")
        yield data[name_at : name_at + length]


def _is_weights(packed: bytes) -> bool:
    name = packed.lower()
    ours = not name.startswith(_PIECES) and not name.rpartition(b"/")[2].startswith(_PIECES)
    return ours and name.endswith(b".safetensors")

r"""The safetensors header, read byte by byte: the file is hostile until its own arithmetic says otherwise.

A safetensors file is an unsigned 64-bit little-endian length `N`, `N` bytes of JSON, then one buffer. The
JSON maps each tensor's name to `dtype`, `shape` and `data_offsets` `[begin, end)` within the buffer;
`__metadata__` maps strings to strings. The tensors cover the buffer without hole or overlap.
(https://github.com/huggingface/safetensors, "Format")

The reference parser lets the last of two equal keys win and drops unknown fields, so a file can carry text
that no loader shows; here both are refused. Nothing is ever unpickled, and nothing is allocated before it has
been compared with the size of the file.
"""

import hashlib
import io
import json
import math
import stat
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn

from loraudit.errors import LorauditError, NotScannable

__all__ = [
    "ITEM_BYTES",
    "Header",
    "TensorInfo",
    "clean",
    "file_sha256",
    "parse_header",
    "parse_json",
    "read_header",
]

MAX_HEADER_BYTES: Final = 25_000_000
MAX_TENSORS: Final = 50_000
MAX_METADATA: Final = 10_000
MAX_DIMENSIONS: Final = 8

ITEM_BYTES: Final[Mapping[str, int]] = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip
"""Bytes of one element, for each dtype name of the format that a LoRA can hold."""

# What a file that is no safetensors file is, told from its first bytes.
_LOOKALIKES: Final[tuple[tuple[bytes, str, str], ...]] = (
    (
        b"version https://git-lfs",
        "a Git LFS pointer, not the file itself",
        "run `git lfs pull`, or download the file itself",
    ),
    (
        b"PK\x03\x04",
        "a zip archive (such as a .ckpt, .pt or .bin checkpoint with a pickle inside)",
        "loraudit never unpickles; ask for the .safetensors file",
    ),
    (
        b"\x80",
        "a Python pickle",
        "loraudit never unpickles; ask for the .safetensors file",
    ),
    (b"GGUF", "a GGUF file", "loraudit reads LoRA files in safetensors format"),
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"\x89PNG", "a PNG picture", "give the .safetensors file"),
    (b"\xff\xd8\xff", "a JPEG picture", "give the .safetensors file"),
    (b"{", "a JSON file", "give the .safetensors file, or the folder that holds it"),
)


@dataclass(frozen=True)
class TensorInfo:
    """Where one tensor lies, checked against the size of the file."""

    dtype: str
    """A key of `ITEM_BYTES`."""
    shape: tuple[int, ...]
    offset: int
    """Bytes from the start of the file."""
    size: int
    """Bytes."""


@dataclass(frozen=True)
class Header:
    """The whole header of one safetensors file, in the file's own order."""

    path: Path
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    size_bytes: int
    """Of the whole file."""


def clean(text: str, limit: int = 120) -> str:
    r"""`text` made harmless for a terminal, a log and a one-line message, at most `limit` characters.

    Control characters (ANSI escapes, new lines, C1), format characters (bidirectional overrides, zero width),
    line and paragraph separators and lone surrogates become visible escapes such as `\x1b` and `\u202e`.
    """
    out = ""
    for char in text[: limit + 1]:
        if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"}:
            code = ord(char)
            out += (
                f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
            )
        else:
            out += char
    return out if len(out) <= limit else out[: limit - 1] + "…"


def file_sha256(*paths: Path) -> str:
    """Hex SHA-256 of the bytes of `paths`, one after another."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def parse_json(data: bytes | str, what: str) -> Any:  # noqa: ANN401
    """JSON from a file, strictly: no equal keys, no NaN, no bottomless nesting.

    `what` names the source in the message. Raises `NotScannable`.
    """
    try:
        return json.loads(data, object_pairs_hook=_unique_keys, parse_constant=_no_constant)
    except _DuplicateKeyError as error:
        raise NotScannable(
            f"{what} holds the key '{clean(str(error))}' twice", "the file was tampered with or broken"
        ) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise NotScannable(
            f"{what} is not valid JSON: {clean(str(error))}", "download or export it again"
        ) from None


def read_header(path: Path) -> Header:
    """Read and check the header of the file at `path`.

    Raises `LorauditError` if the file cannot be opened, `NotScannable` naming what it is if it is not a sound
    safetensors file.
    """
    name = clean(path.name)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise NotScannable(f"{name} is a folder, not a file", "give the .safetensors file inside it")
        if not stat.S_ISREG(status.st_mode):
            raise NotScannable(f"{name} is not a regular file", "give a .safetensors file")
        with path.open("rb") as file:
            return _read(file, path, name, status.st_size)
    except FileNotFoundError:
        raise LorauditError(f"no such file: {clean(str(path), 300)}", "check the path") from None
    except OSError as error:
        raise LorauditError(
            f"cannot read {name}: {clean(str(error.strerror))}", "check its permissions"
        ) from None


def parse_header(data: bytes, path: Path, size: int) -> Header:
    """Check the header in `data`, the first bytes of a file of `size` bytes that may lie elsewhere.

    `path` gives its name and is not opened. Raises like `read_header`.
    """
    return _read(io.BytesIO(data), path, clean(path.name), size)


def _read(file: BinaryIO, path: Path, name: str, size: int) -> Header:
    if size == 0:
        raise NotScannable(f"{name} is empty", "download or export it again")
    start = file.read(512)
    length = int.from_bytes(start[:8], "little")
    if size < 8 or length > MAX_HEADER_BYTES or not start[8:].lstrip(b" \t\r\n").startswith(b"{"):
        _refuse(start, name, size)
    if 8 + length > size:
        raise _truncated(name, size, 8 + length)
    file.seek(8)
    text = file.read(length)
    if len(text) != length:
        raise _truncated(name, 8 + len(text), 8 + length)
    table = parse_json(text, f"the header of {name}")
    if not isinstance(table, dict):
        raise _unsound(name, "it is not a JSON object")
    metadata = _metadata(table.pop("__metadata__", None), name)
    if len(table) > MAX_TENSORS:
        raise _unsound(name, f"it lists {len(table)} tensors, more than {MAX_TENSORS}")
    return Header(path, _tensors(table, 8 + length, size, name), metadata, size)


def _tensors(table: Mapping[str, Any], start: int, size: int, name: str) -> dict[str, TensorInfo]:
    tensors = {key: _tensor(key, entry, start, name) for key, entry in table.items()}
    end = start
    for key, info in sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].size)):
        if info.offset != end:
            raise _unsound(name, f"tensor '{clean(key)}' leaves a hole or overlaps another")
        end += info.size
    if end > size:
        raise _truncated(name, size, end)
    if end < size:
        raise _unsound(name, f"{size - end} bytes follow the last tensor")
    return tensors


def _tensor(key: str, entry: object, start: int, name: str) -> TensorInfo:
    what = f"tensor '{clean(key)}'"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _unsound(name, f"{what} does not have exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise _unsound(name, f"{what} has the unknown dtype '{clean(str(dtype), 40)}'")
    if not _is_sizes(shape) or len(shape) > MAX_DIMENSIONS:
        raise _unsound(name, f"{what} has no sound shape")
    if not _is_sizes(offsets) or len(offsets) != 2:
        raise _unsound(name, f"{what} has no sound data_offsets")
    begin, end = offsets
    if end - begin != math.prod(shape) * ITEM_BYTES[dtype]:
        raise _unsound(name, f"{what} has data_offsets that do not fit its shape")
    return TensorInfo(dtype, tuple(shape), start + begin, end - begin)


def _metadata(value: object, name: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise _unsound(name, "__metadata__ does not map text to text")
    if len(value) > MAX_METADATA:
        raise _unsound(name, f"__metadata__ has {len(value)} keys, more than {MAX_METADATA}")
    return value


def _is_sizes(value: object) -> bool:
    # bool is an int to Python; 48 bits is the limit of the format's own JSON schema.
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 48 for item in value)


def _refuse(start: bytes, name: str, size: int) -> NoReturn:
    head = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if head[:15].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise NotScannable(
            f"{name} is a web page, not a LoRA file", "the download failed (log in, or follow the real link)"
        )
    for magic, what, hint in _LOOKALIKES:
        if start.startswith(magic) or (magic == b"{" and head.startswith(magic)):
            raise NotScannable(f"{name} is {what}", hint)
    if size < 8:
        raise _truncated(name, size, 8)
    raise NotScannable(f"{name} is not a safetensors file", "loraudit reads LoRA files in safetensors format")


def _truncated(name: str, size: int, needed: int) -> NotScannable:
    return NotScannable(
        f"{name} is truncated: {size} bytes of at least {needed}", "download or export it again"
    )


def _unsound(name: str, why: str) -> NotScannable:
    return NotScannable(f"the header of {name} is not sound: {why}", "download or export it again")


class _DuplicateKeyError(Exception):
    """A JSON object names one key twice."""


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in pairs:
        if key in table:
            raise _DuplicateKeyError(key)
        table[key] = value
    return table


def _no_constant(token: str) -> NoReturn:
    raise ValueError(f"{token} is not allowed")

r"""The safetensors header, read byte by byte: the file is hostile until its own arithmetic says otherwise.

A safetensors file is an unsigned 64-bit little-endian length `N`, `N` bytes of JSON, then one buffer. The
JSON maps each tensor's name to `dtype`, `shape` and `data_offsets` `[begin, end)` within the buffer;
`__metadata__` maps strings to strings. The tensors cover the buffer without hole or overlap.
(https://github.com/huggingface/safetensors, "Format")

The reference parser lets the last of two equal keys win and drops unknown fields, so a file can carry text
that no loader shows. Here the last wins too, and what was passed over is kept in `Header.hidden`. Where the
reference refuses (two `__metadata__`, two of one field of a tensor), this module does too. Nothing is ever
unpickled, and no size is allocated before it has been compared with that of the file.
"""

import io
import json
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

from loraudit.errors import LorauditError, NotScannable
from loraudit.hiding import named
from loraudit.lora.file.lookalikes import lookalike, truncated
from loraudit.lora.file.ordinary import (
    FIELDS,
    ITEM_BITS,
    MAX_DIMENSIONS,
    MAX_METADATA,
    MAX_SIZE,
    MAX_TENSORS,
    TensorInfo,
    bytes_of,
    read_ordinary,
)
from loraudit.text import JsonObject, clean, decode, twice

__all__ = [
    "MAX_DIMENSIONS",
    "MAX_HEADER_BYTES",
    "MAX_METADATA",
    "MAX_TENSORS",
    "Header",
    "Hidden",
    "TensorInfo",
    "parse_header",
    "read_header",
]

MAX_HEADER_BYTES: Final = 25_000_000
# A tensor has 5 strings, 4 colons, 3 opening brackets and commas between fields, offsets and dimensions; a
# metadata key 4 tokens.
MAX_TOKENS: Final = (15 + MAX_DIMENSIONS) * MAX_TENSORS + 4 * MAX_METADATA + 8
_LISTED: Final = 1 << 16
"""Bytes at the end of a file that may be an archive's list."""
_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[:,\[{]', re.DOTALL)


@dataclass(frozen=True)
class Hidden:
    """Text in the header that no loader shows."""

    kind: Literal["metadata key", "tensor name", "tensor field", "padding"]
    """Metadata key or tensor named twice, an unknown field of a tensor, or white space around the JSON."""
    key: str
    """Name of the metadata key or of the tensor; empty for padding."""
    text: str
    """Value that was passed over; JSON unless it is one of the metadata."""


@dataclass(frozen=True)
class Header:
    """Whole header of one safetensors file, in the file's own order."""

    path: Path
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    size_bytes: int
    """Size of the whole file."""
    hidden: tuple[Hidden, ...] = ()


def read_header(path: Path) -> Header:
    """Read and check the header of the file at `path`.

    Raises `LorauditError` if the file cannot be opened; `NotScannable`, with what the file is, if it is no
    sound safetensors file.
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

    `path` gives the name for errors and is not opened. Raises like `read_header`.
    """
    return _read(io.BytesIO(data), path, clean(path.name), size)


def _read(file: BinaryIO, path: Path, name: str, size: int) -> Header:
    if size == 0:
        raise NotScannable(f"{name} is empty", "download or export it again")
    start = file.read(512)
    length = int.from_bytes(start[:8], "little")
    if size < 8 or length > MAX_HEADER_BYTES or not start[8:].lstrip(b" \t\r\n").startswith(b"{"):
        raise lookalike(start, _end(file), name, size)
    if 8 + length > size:
        raise truncated(name, size, 8 + length)
    file.seek(8)
    text = file.read(length)
    if len(text) != length:
        raise truncated(name, 8 + len(text), 8 + length)
    if _has_too_many_tokens(text):
        raise _unsound(name, f"it holds more than {MAX_TENSORS} tensors and {MAX_METADATA} metadata keys")
    ordinary = read_ordinary(text, 8 + length, size)
    tensors, metadata, hidden = (*ordinary, []) if ordinary else _read_json(text, 8 + length, size, name)
    stripped = text.strip(b" \t\r\n")
    if text.rstrip(b" ") != stripped:
        hidden.append(Hidden("padding", "", f"{len(text) - len(stripped)} bytes"))
    return Header(path, tensors, metadata, size, tuple(hidden))


def _end(file: BinaryIO) -> bytes:
    """Read the last bytes of `file`, where an archive lists what it holds."""
    file.seek(max(0, file.seek(0, io.SEEK_END) - _LISTED))
    return file.read(_LISTED)


def _read_json(
    text: bytes, start: int, size: int, name: str
) -> tuple[dict[str, TensorInfo], dict[str, str], list[Hidden]]:
    """Read any header, member by member, and name what is wrong or hidden."""
    table = decode(text, f"the header of {name}", JsonObject)
    if not isinstance(table, JsonObject):
        raise _unsound(name, "it is not a JSON object")
    if any(key == "__metadata__" for key, _ in table.passed_over):
        raise twice(f"the header of {name}", "__metadata__")
    metadata, hidden = _metadata(table.pop("__metadata__", None), name)
    if len(table) + len(table.passed_over) > MAX_TENSORS:
        raise _unsound(name, f"it lists {len(table)} tensors, more than {MAX_TENSORS}")
    hidden += _hidden(table, start, name)
    return _tensors(table, start, size, name), metadata, hidden


def _hidden(table: "JsonObject", start: int, name: str) -> list[Hidden]:
    """List the tensors of `table` that were passed over, and the fields of tensors that mean nothing."""
    hidden = []
    for key, entry in table.passed_over:
        _tensor(key, entry, start, name)
        hidden.append(Hidden("tensor name", key, _dumped(entry)))
    for key, entry in (*table.items(), *table.passed_over):
        if isinstance(entry, JsonObject) and len(entry) > len(FIELDS):
            extra = {field: value for field, value in entry.items() if field not in FIELDS}
            hidden.append(Hidden("tensor field", key, _dumped(extra)))
    return hidden


def _dumped(value: object) -> str:
    try:
        return json.dumps(value)
    except RecursionError:  # the parser bears a little more depth than the writer
        return "nested too deeply to show"


def _has_too_many_tokens(text: bytes) -> bool:
    """Tell whether JSON would make more objects of `text` than of the largest header within the limits."""
    # At least as many as there are tokens; marks inside strings count here.
    if len(text) <= MAX_TOKENS:
        return False
    if text.count(b'"') // 2 + sum(text.count(mark) for mark in (b":", b",", b"[", b"{")) <= MAX_TOKENS:
        return False
    return next(islice(_TOKEN.finditer(text), MAX_TOKENS, None), None) is not None


def _tensors(table: Mapping[str, Any], start: int, size: int, name: str) -> dict[str, TensorInfo]:
    tensors = {key: _tensor(key, entry, start, name) for key, entry in table.items()}
    end = start
    for key, info in sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].size)):
        if info.offset != end:
            raise _unsound(name, f"tensor '{named(key)}' leaves a hole or overlaps another")
        end += info.size
    if end > size:
        raise truncated(name, size, end)
    if end < size:
        raise _unsound(name, f"{size - end} bytes follow the last tensor")
    return tensors


def _tensor(key: str, entry: object, start: int, name: str) -> TensorInfo:
    if not isinstance(entry, JsonObject) or not entry.keys() >= set(FIELDS):
        raise _unsound_tensor(name, key, "does not have dtype, shape and data_offsets")
    if entry.passed_over:
        raise twice(f"the header of {name}", entry.passed_over[0][0])
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BITS:
        raise _unsound_tensor(name, key, f"has the unknown dtype '{named(str(dtype)[:40])}'")
    if not _is_sizes(shape) or len(shape) > MAX_DIMENSIONS:
        raise _unsound_tensor(name, key, "has no sound shape")
    if not _is_sizes(offsets) or len(offsets) != 2:
        raise _unsound_tensor(name, key, "has no sound data_offsets")
    begin, end = offsets
    if end - begin != bytes_of(dtype, shape):
        raise _unsound_tensor(name, key, "has data_offsets that do not fit its shape")
    return TensorInfo(dtype, tuple(shape), start + begin, end - begin)


def _metadata(value: object, name: str) -> tuple[dict[str, str], list[Hidden]]:
    if value is None:
        return {}, []
    if not isinstance(value, JsonObject):
        raise _unsound(name, "__metadata__ does not map text to text")
    hidden = [Hidden("metadata key", key, text) for key, text in value.passed_over]
    if not all(isinstance(text, str) for text in (*value.values(), *(item.text for item in hidden))):
        raise _unsound(name, "__metadata__ does not map text to text")
    if len(value) + len(hidden) > MAX_METADATA:
        raise _unsound(name, f"__metadata__ has {len(value)} keys, more than {MAX_METADATA}")
    return dict(value), hidden


def _is_sizes(value: object) -> bool:
    # bool is an int to Python.
    return isinstance(value, list) and all(type(item) is int and 0 <= item <= MAX_SIZE for item in value)


def _unsound(name: str, why: str) -> NotScannable:
    return NotScannable(f"the header of {name} is not sound: {why}", "download or export it again")


def _unsound_tensor(name: str, key: str, why: str) -> NotScannable:
    return _unsound(name, f"tensor '{named(key)}' {why}")

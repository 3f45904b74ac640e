"""Ordinary headers, as trainers write them, read at the speed of C, and the places of tensors.

A folder holds thousands of files, each with hundreds of tensors. `read_ordinary` takes only a header that is
sound and has nothing beside what the format asks for. Any other header is left to `header.read_header`, which
looks at every member, and names what is wrong or hidden.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from operator import itemgetter, sub
from typing import Any, Final, NamedTuple, NoReturn

__all__ = [
    "FIELDS",
    "ITEM_BITS",
    "MAX_DIMENSIONS",
    "MAX_METADATA",
    "MAX_SIZE",
    "MAX_TENSORS",
    "TensorInfo",
    "bytes_of",
    "read_ordinary",
]

MAX_TENSORS: Final = 50_000
MAX_METADATA: Final = 10_000
MAX_DIMENSIONS: Final = 8
ORDINARY_BYTES: Final = 4_000_000
"""Limit in bytes on an ordinary header; a longer one is not parsed a first time in vain."""
MAX_SIZE: Final = (1 << 48) - 1
"""Limit on a dimension or an offset, as in the format's own JSON schema."""

ITEM_BITS: Final[Mapping[str, int]] = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8,
    "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32,
    "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
"""Bits of one element, for each dtype name of the format; `matrices.DTYPES` has those that are read."""

FIELDS: Final = ("dtype", "shape", "data_offsets")
"""Fields of a tensor in the header."""
_FIELDS: Final = itemgetter(*FIELDS)


def _refuse(token: str) -> NoReturn:
    raise ValueError(token)


_DECODER: Final = json.JSONDecoder(parse_float=_refuse, parse_constant=_refuse)


class TensorInfo(NamedTuple):
    """Place of one tensor, checked against the size of the file."""

    dtype: str
    """Key of `ITEM_BITS`."""
    shape: tuple[int, ...]
    offset: int
    """Place of the first byte, from the start of the file."""
    size: int
    """Size in bytes."""


def read_ordinary(
    data: bytes, start: int, size: int
) -> tuple[Mapping[str, TensorInfo], dict[str, str]] | None:
    """Read tensors and metadata of the header `data`, whose buffer is bytes `start` to `size` of the file.

    Returns None unless the header is sound, not too long, names nothing twice and holds nothing else.
    """
    if len(data) > ORDINARY_BYTES:
        return None
    try:
        text = data.decode()
        table = _DECODER.decode(text)
        stated = "__metadata__" in table
        metadata = table.pop("__metadata__", {})
        # Only an object has these fields: anything else raises.
        dtypes, lists, offsets = zip(*map(_FIELDS, table.values()), strict=True)
        sound = (
            len(table) <= MAX_TENSORS
            and len(metadata) <= MAX_METADATA
            and _all(str, (*metadata.values(), *dtypes))
            and _all(list, lists)
            and max(map(len, lists)) <= MAX_DIMENSIONS
            and set(map(len, offsets)) == {2}
            # True and 1.0 are ones to Python; what else has a length holds texts.
            and _all(int, chain.from_iterable((*lists, *offsets)))
            # A tensor has five strings. One more, and a member has been passed over or means nothing.
            and _strings(text) == 5 * len(table) + stated + 2 * len(metadata)
        )
        if not sound:
            return None
        kinds = list(zip(dtypes, map(tuple, lists), strict=True))
        sizes_of = {kind: _size(*kind) for kind in set(kinds)}
        sizes = list(map(sizes_of.__getitem__, kinds))
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError, MemoryError):
        return None
    begins, ends = zip(*offsets, strict=True)
    # Each begins where the one before ends; most headers name them in the order of the bytes.
    if (0, *ends) != (*begins, size - start):
        first, last = zip(*sorted(zip(begins, ends, strict=True)), strict=True)
        if (0, *last) != (*first, size - start):
            return None
    if sizes != list(map(sub, ends, begins)):
        return None
    return _Tensors(table, start), metadata


class _Tensors(Mapping[str, TensorInfo]):
    """Places of tensors, looked up when asked for: a scan of the metadata asks for their names only."""

    def __init__(self, table: Mapping[str, Any], start: int) -> None:
        """Keep the sound header `table`, whose buffer begins at byte `start`."""
        self._table = table
        self._start = start

    def __getitem__(self, key: str) -> TensorInfo:
        dtype, shape, (begin, end) = _FIELDS(self._table[key])
        return TensorInfo(dtype, tuple(shape), self._start + begin, end - begin)

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)


def bytes_of(dtype: str, shape: Sequence[int]) -> int | None:
    """Compute the size of a tensor in bytes; None if it does not end with a whole byte.

    Raises `KeyError` if the format has no such dtype.
    """
    whole, rest = divmod(math.prod(shape) * ITEM_BITS[dtype], 8)
    return None if rest else whole


def _size(dtype: str, shape: tuple[int, ...]) -> int:
    """Compute the size of a tensor in bytes. Raises `ValueError` if a dimension or the size is unsound."""
    size = bytes_of(dtype, shape)
    if size is None or not all(0 <= item <= MAX_SIZE for item in shape):
        raise ValueError(shape)
    return size


def _all(kind: type, values: Any) -> bool:  # noqa: ANN401
    return set(map(type, values)) <= {kind}


def _strings(text: str) -> int:
    """Count the strings in the JSON `text`; -1 if one may hold half a character."""
    quotes = text.count('"')
    first = text.find("\\")
    if first >= 0:
        # Few texts have any, and those side by side. What is left of a run of them escapes what follows.
        escapes = text[first : text.rfind("\\") + 3].replace("\\\\", "")
        if "\\ud" in escapes or "\\uD" in escapes:
            return -1
        quotes -= escapes.count('\\"')
    return quotes // 2

"""A header that would cost more than it may is refused before it does: bombs, limits, lengths that lie."""

import json
import struct
import time
from pathlib import Path

import pytest

from loraudit.errors import NotScannable
from loraudit.lora import load_lora
from loraudit.lora.file.header import MAX_DIMENSIONS, MAX_HEADER_BYTES, MAX_METADATA, MAX_TENSORS, read_header
from tests.test_lora_file_fuzz import NAME, framed, memory_below, read_or_refused


def many(count: int, entry: str) -> bytes:
    return b"{" + b",".join(entry.replace("#", str(index)).encode() for index in range(count)) + b"}"


TENSOR = '"#":{"dtype":"F32","shape":[1],"data_offsets":[0,0]}'


BOMBS = {
    "metadata keys": lambda: b'{"__metadata__":' + many(1_000_000, '"#":"v"') + b"}",
    "tensors": lambda: many(300_000, TENSOR),
    "lists": lambda: b'{"a":[' + b"[]," * 8_000_000 + b"[]]}",
    "numbers": lambda: b'{"a":[' + b"9999," * 4_900_000 + b"9]}",
    "strings": lambda: b'{"a":' + b'""' * 12_000_000,
    "escapes": lambda: b'{"a":"' + b'\\"' * 12_000_000,
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_before_it_goes_off(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(framed(BOMBS[kind]()))
    start = time.process_time()
    assert read_or_refused(path) is None
    # 0.2 to 0.35 s on a quiet core; a busy one counts up to twice that.
    assert time.process_time() - start < 1.0
    with memory_below(100e6), pytest.raises(NotScannable):
        read_header(path)


def test_the_limits_are_where_they_are_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "x"
    entry = f'"#":{{"dtype":"F32","shape":[{"1," * (MAX_DIMENSIONS - 1)}0],"data_offsets":[0,0]}}'
    metadata = b'"__metadata__":' + many(MAX_METADATA, '"#":"v"')
    path.write_bytes(framed(many(MAX_TENSORS, entry)[:-1] + b"," + metadata + b"}"))
    header = read_header(path)
    assert (len(header.tensors), len(header.metadata)) == (MAX_TENSORS, MAX_METADATA)
    path.write_bytes(framed(many(MAX_TENSORS + 1, TENSOR)))
    with pytest.raises(NotScannable, match=f"lists {MAX_TENSORS + 1} tensors"):
        read_header(path)
    path.write_bytes(framed(b'{"__metadata__":' + many(MAX_METADATA + 1, '"#":"v"') + b"}"))
    with pytest.raises(NotScannable, match=f"has {MAX_METADATA + 1} keys"):
        read_header(path)


def test_marks_inside_a_string_are_no_bomb(tmp_path: Path) -> None:
    """Captions in the metadata are JSON of their own, escaped."""
    value = json.dumps({"tags": {f'a "{index}"': [index] for index in range(100_000)}})
    (tmp_path / "x").write_bytes(framed(json.dumps({"__metadata__": {"ss_tag_frequency": value}}).encode()))
    assert read_header(tmp_path / "x").metadata == {"ss_tag_frequency": value}


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, MAX_HEADER_BYTES, MAX_HEADER_BYTES + 1, 100])
def test_nothing_is_allocated_on_the_word_of_a_length(length: int, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(struct.pack("<Q", length) + b"{}" + b" " * 40)
    with memory_below(100_000), pytest.raises(NotScannable):
        read_header(tmp_path / "x")


@pytest.mark.parametrize("size", [2**40, 2**46, 2**47])
def test_nothing_is_allocated_on_the_word_of_a_shape(size: int, tmp_path: Path) -> None:
    text = json.dumps({f"{NAME}.lora_up.weight": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}})
    (tmp_path / "x").write_bytes(framed(text.encode(), bytes(16)))
    with memory_below(200_000), pytest.raises(NotScannable, match="truncated"):
        load_lora(tmp_path / "x")

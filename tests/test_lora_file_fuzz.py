"""Whatever the bytes, a header is read right or refused in words: no other exception, no more memory.

A longer run of the same strategies: `HEADER_EXAMPLES=100000 pytest tests/test_lora_file_fuzz.py`.
"""

import contextlib
import json
import math
import os
import struct
import tracemalloc
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from loraudit.errors import LorauditError, NotScannable
from loraudit.lora import load_lora
from loraudit.lora.file.header import MAX_HEADER_BYTES, Header, _read_json, read_header
from loraudit.lora.file.ordinary import ITEM_BITS, read_ordinary
from loraudit.lora.file.reference import require_agreement

EXAMPLES = int(os.environ.get("HEADER_EXAMPLES", "1000"))
HARMFUL = {"Cc", "Cf", "Cs", "Zl", "Zp"}
NAME = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
SEEDS = (
    save({"b": np.ones((2, 3), np.float16), "a": np.ones((), np.int64), "z": np.ones((0, 3))}, {"k": "v"}),
    save(
        {
            f"{NAME}.lora_down.weight": np.ones((1, 320), np.float16),
            f"{NAME}.lora_up.weight": np.ones((320, 1), np.float16),
            f"{NAME}.alpha": np.ones((), np.float16),
        },
        {"ss_tag_frequency": '{"10_ada": {"ada": 3}}', "modelspec.title": "é\u202e"},
    ),
    save({}, {}),
)


def framed(text: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text)) + text + data


@contextlib.contextmanager
def memory_below(limit: float) -> Iterator[None]:
    """Fail if Python allocates more than `limit` bytes inside."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limit


def harmless(error: LorauditError) -> bool:
    """Whether the message is short, one line, and inert on a terminal."""
    text = str(error)
    return len(text) < 400 and not any(unicodedata.category(char) in HARMFUL for char in text)


def read_or_refused(path: Path) -> Header | None:
    """The header, or None where it was refused properly."""
    refusal: NotScannable
    try:
        header = read_header(path)
    except NotScannable as error:
        refusal = error
    else:
        # The tensors lie end to end, from the header to the end of the file.
        places = sorted((info.offset, info.offset + info.size) for info in header.tensors.values())
        start = 8 + int.from_bytes(path.read_bytes()[:8], "little")
        assert [begin for begin, _ in places] == [start, *(end for _, end in places)][: len(places)]
        assert (places[-1][1] if places else start) == path.stat().st_size == header.size_bytes
        return header
    assert harmless(refusal)
    assert refusal.hint
    return None


def check(path: Path, data: bytes) -> None:
    """Read `data` by every door: the header, the second opinion, the whole LoRA."""
    path.write_bytes(data)
    header = read_or_refused(path)
    refusals: list[LorauditError] = []
    for read in (lambda: load_lora(path), lambda: header and require_agreement(header)):
        try:
            read()
        except LorauditError as error:
            refusals.append(error)
    assert all(harmless(error) for error in refusals)
    # The one known difference: to Python's parser, minus zero is a size.
    assert b"-0" in data or not any("the safetensors library" in str(error) for error in refusals)


INTERESTING = st.sampled_from([0, 1, 7, 8, 255, 2**16, 2**31, 2**32, 2**47, 2**48, 2**53, 2**63, 2**64 - 1])


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    """A valid file after a few changes of its bytes, most of them in the header."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    header = 8 + int.from_bytes(data[:8], "little")
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, max(0, min(len(data), header) - 1)))
        end = at + draw(st.integers(1, 40))
        kind = draw(st.sampled_from(["set", "cut", "insert", "repeat", "end", "length", "add", "number"]))
        if kind == "set" and at < len(data):
            data[at] = draw(st.integers(0, 255))
        elif kind == "cut":
            del data[at:end]
        elif kind == "insert":
            data[at:at] = draw(
                st.binary(max_size=8) | st.sampled_from([b"{", b"]", b'"', b",", b"\\u", b"-0"])
            )
        elif kind == "repeat":
            data[at:at] = data[at:end]
        elif kind == "end":
            del data[draw(st.integers(0, len(data))) :]
        elif kind == "length":
            data[:8] = struct.pack("<Q", draw(INTERESTING | st.integers(0, len(data) + 2)))
        elif kind == "add":
            data += draw(st.binary(max_size=20))
        else:
            data[at:end] = str(draw(INTERESTING)).encode()
    if draw(st.booleans()):
        # The frame made right again, so that the change is met behind it.
        text = bytes(data[8:]).partition(b"}}")[0] + b"}}"
        data[:8] = struct.pack("<Q", len(text))
    return bytes(data)


TEXTS = st.sampled_from(
    ["a", "b", "__metadata__", "dtype", "shape", "data_offsets", "F32", "F16", "\ud800", "\x1b[31m", "n[/]"]
) | st.text(max_size=5)
NUMBERS = (
    st.sampled_from(["NaN", "-Infinity", "1e999", "-0", "0.0", "1E2", "01", "9" * 4301, str(2**48), "-1"])
    | st.integers(-3, 20).map(str)
    | INTERESTING.map(str)
)


def objects(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """JSON objects as text, with any key any number of times."""
    pairs = st.lists(st.tuples(TEXTS, values), max_size=5)
    return pairs.map(lambda pairs: "{" + ",".join(f"{json.dumps(key)}:{value}" for key, value in pairs) + "}")


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """Files of a few tensors end to end, but for holes, overlaps, wrong sizes, unknown dtypes."""

    def seldom(strange: st.SearchStrategy[str], usual: object) -> str:
        return draw(strange) if draw(st.integers(0, 15)) == 0 else str(usual)

    items, end = [], 0
    for _ in range(draw(st.integers(0, 3))):
        shape = draw(st.lists(st.integers(0, 3), max_size=3))
        dtype = draw(st.sampled_from(["F32", "U8", "BF16", "F4", "F6_E2M3", "F8_E8M0", "C64"]))
        begin = max(0, end + draw(st.sampled_from([0, 0, 0, 0, 0, 0, 1, -1])))
        # A shape of half a byte more than its place, or less, is one of the faults.
        end = begin + math.prod(shape) * ITEM_BITS[dtype] // 8
        sizes = ",".join(seldom(NUMBERS, size) for size in shape)
        places = ",".join(seldom(NUMBERS, place) for place in (begin, end))
        named = seldom(st.sampled_from(["F4", "F5", "f32", "C64", ""]), dtype)
        more = seldom(st.sampled_from([',"x":1', ',"dtype":"F32"']), "")
        items.append(f'{{"dtype":"{named}","shape":[{sizes}],"data_offsets":[{places}]{more}}}')
    values = [seldom(VALUES, item) for item in items]
    text = "{" + ",".join(f"{json.dumps(draw(TEXTS))}:{value}" for value in values) + "}"
    return framed(text.encode(), bytes(end + draw(st.sampled_from([0, 0, 0, 1, -1])) if end else 0))


VALUES = st.recursive(
    NUMBERS | TEXTS.map(json.dumps) | st.sampled_from(["null", "true", "{", "]", ""]),
    lambda inner: objects(inner) | st.lists(inner, max_size=4).map(lambda items: f"[{','.join(items)}]"),
    max_leaves=8,
)
FILES = mutants() | tables() | (objects(VALUES) | VALUES).map(lambda text: framed(text.encode()))


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mutants())
def test_a_changed_file_is_read_or_refused(tmp_path: Path, data: bytes) -> None:
    check(tmp_path / "x", data)


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables())
def test_a_strange_table_is_read_or_refused(tmp_path: Path, data: bytes) -> None:
    check(tmp_path / "x", data)


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(objects(VALUES) | VALUES, st.sampled_from(["utf-8", "utf-16-le", "utf-8-sig"]))
def test_any_json_is_read_or_refused(tmp_path: Path, text: str, encoding: str) -> None:
    check(tmp_path / "x", framed(text.encode(encoding)))


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FILES)
def test_memory_is_bounded_by_the_file(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    with memory_below(200_000 + 40 * len(data)), contextlib.suppress(LorauditError):
        read_header(path)


def test_the_strategies_reach_every_branch(tmp_path: Path) -> None:
    """Otherwise their silence would mean nothing: some files are read, some refused for each reason."""
    seen: set[str] = set()
    path = tmp_path / "x"

    @settings(max_examples=1500, derandomize=True)
    @given(mutants(), tables(), VALUES)
    def collect(mutant: bytes, table: bytes, text: str) -> None:
        for data in (mutant, table, framed(text.encode())):
            path.write_bytes(data)
            try:
                seen.add(f"read {len(read_header(path).tensors)}")
            except NotScannable as error:
                seen.add(str(error))

    collect()
    for words in (
        "read 0", "read 1", "read 3", "truncated", "not valid JSON", "twice", "dtype, shape and data",
        "unknown dtype", "no sound shape", "no sound data_offsets", "do not fit", "hole or overlaps",
        "bytes follow", "text to text", "not a safetensors file",
    ):  # fmt: skip
        assert any(words in message for message in seen), words


@pytest.mark.parametrize("text", ['{"a":1}', '{"é":1}', "{}"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-32-le", "utf-8-sig", "utf-16"])
def test_utf_8_is_the_only_encoding(text: str, encoding: str, tmp_path: Path) -> None:
    """Python's parser guesses UTF-16 and UTF-32; the safetensors library takes neither."""
    (tmp_path / "x").write_bytes(framed(text.encode(encoding)))
    assert read_or_refused(tmp_path / "x") is None


@pytest.mark.parametrize("key", [b"\\ud800", b"\\uDFFF", b"\\udc00\\ud800", b"\xed\xa0\x80"])
def test_a_lone_surrogate_is_no_text(key: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x"
    for text in (b'{"__metadata__":{"%s":""}}' % key, b'{"__metadata__":{"k":"%s"}}' % key):
        path.write_bytes(framed(text))
        with pytest.raises(NotScannable, match="not valid JSON"):
            read_header(path)
        with pytest.raises(SafetensorError):
            safe_open(path, "np", backend="pread").__enter__()
    path.write_bytes(framed(b'{"__metadata__":{"k":"\\ud83d\\ude00"}}'))
    assert read_header(path).metadata == {"k": "\U0001f600"}


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mutants())
def test_the_quick_reader_takes_nothing_that_the_careful_one_reads_otherwise(data: bytes) -> None:
    length = int.from_bytes(data[:8], "little")
    text = data[8 : 8 + min(length, MAX_HEADER_BYTES)]
    quick = read_ordinary(text, 8 + length, len(data))
    if quick is not None:
        assert _read_json(text, 8 + length, len(data), "x") == (*quick, [])


def test_the_quick_reader_takes_what_trainers_write_and_leaves_the_rest() -> None:
    for data in SEEDS[:2]:
        length = int.from_bytes(data[:8], "little")
        text = data[8 : 8 + length]
        assert read_ordinary(text, 8 + length, len(data)) is not None
        for old, new in (
            (b'"dtype"', b'"dtype":"F16","dtype"'),
            (b'"dtype"', b'"note":1,"dtype"'),
            (b'"__metadata__"', b'"__metadata__":{},"__metadata__"'),
            (b"[1,", b"[true,"),
            (b"[2,", b"[2.0,"),
        ):
            changed = text.replace(old, new, 1)
            assert changed == text or read_ordinary(changed, 8 + length, len(data)) is None

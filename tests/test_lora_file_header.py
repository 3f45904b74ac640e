"""A header is read whole and right, or refused in words that say what the file is."""

import io
import json
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from loraudit.errors import LorauditError, NotScannable
from loraudit.files import file_sha256
from loraudit.lora.file.header import MAX_HEADER_BYTES, Hidden, read_header
from loraudit.text import clean, parse_json

GOOD = {"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}


def frame(header: object, data: bytes = bytes(16)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(**changes: object) -> bytes:
    return frame({"a": GOOD["a"] | changes})


def test_reads_what_the_reference_writer_wrote(tmp_path: Path) -> None:
    arrays = {
        "b": np.arange(6, dtype=np.float16).reshape(2, 3),
        "a": np.ones((), np.int64),
        "z": np.ones((0, 3)),
    }
    path = tmp_path / "x.safetensors"
    path.write_bytes(save(arrays, {"key": "value"}))
    header = read_header(path)
    assert header.metadata == {"key": "value"}
    assert header.size_bytes == path.stat().st_size
    data = path.read_bytes()
    for key, array in arrays.items():
        info = header.tensors[key]
        assert info.shape == array.shape
        assert data[info.offset : info.offset + info.size] == array.tobytes()


def packed(*names: str, compression: int = zipfile.ZIP_STORED) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", compression) as archive:
        for name in names:
            archive.writestr(name, b"" if name.endswith("/") else frame(GOOD) * 20)
    return data.getvalue()


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize(
    ("names", "inside"),
    [
        (["x.safetensors"], True),
        (["lora/", "lora/zqx.SAFETENSORS"], True),
        (["preview.png", "readme.txt", "zqx.safetensors", "__MACOSX/._zqx.safetensors"], True),
        ([f"{number}.png" for number in range(300)] + ["x.safetensors"], True),
        (["archive/data.pkl", "archive/data/0"], False),
        (["preview.png"], False),
        (["__MACOSX/._x.safetensors", "__MACOSX/x.safetensors", "lora/._x.safetensors"], False),
    ],
)
def test_a_safetensors_file_in_a_zip_archive_is_told_and_not_unpacked(
    names: list[str], inside: bool, compression: int, tmp_path: Path
) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(packed(*names, compression=compression))
    with pytest.raises(NotScannable, match="is a zip archive") as caught:
        read_header(path)
    said = f"{caught.value}; {caught.value.hint}"
    assert ("with a .safetensors file inside; unpack it" in said) is inside
    assert ("never unpickles" in said) is not inside
    assert "zqx" not in said


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"\x01\x02", "truncated"),
        (bytes(7), "truncated"),
        (frame(GOOD)[:30], "truncated"),
        (frame(GOOD)[:-1], "truncated"),
        (frame(GOOD) + b"x", "1 bytes follow"),
        (b"PK\x03\x04" + bytes(100), "zip archive"),
        (b"\x80\x02}q\x00." + bytes(100), "pickle"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"\n  <html><body>404", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS pointer"),
        (b"GGUF" + bytes(40), "GGUF"),
        (b'{"peft_type": "LORA"}', "a JSON file"),
        (b'{"error":"Unauthorized","message":"log in"}', "error message in JSON"),
        (b'{ "Message": "Not Found" }', "error message in JSON"),
        (b'{"errors":[{"status":404}]}', "error message in JSON"),
        (b'{"detail":"Authentication credentials were not provided."}', "error message in JSON"),
        (b"<Error><Code>AccessDenied</Code></Error>", "web page"),
        (b"Entry not found\n", "but a text"),
        (b"Invalid username or password.", "but a text"),
        (b"# xet version 0\nfilesize = 1234\n", "Xet pointer"),
        (b"Rar!\x1a\x07\x01\x00" + bytes(40), "RAR archive"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(40), "7z archive"),
        (b"lora.safetensors".ljust(257, b"\0") + b"ustar\x0000" + bytes(300), "tar archive"),
        (bytes(4096), "nothing but zeros"),
        (b"\x7fELF" + bytes(40), "not a safetensors file"),
        (struct.pack("<Q", MAX_HEADER_BYTES + 1) + b"{}", "not a safetensors file"),
        (struct.pack("<Q", 2**63) + b"{}", "not a safetensors file"),
        (struct.pack("<Q", 2**64 - 1) + b"{}", "not a safetensors file"),
        (frame(b"{]"), "not valid JSON"),
        (frame(b"{" * 5000), "not valid JSON"),
        (frame(b'{"a":' * 100_000), "not valid JSON"),
        (frame(b'{"a": 1' + b"0" * 4300 + b"}"), "not valid JSON"),
        (frame(b'{"a": 1' + b"0" * 4299 + b"}"), "dtype, shape and data_offsets"),
        (frame(b'{"__metadata__": {"k": NaN}}'), "not valid JSON"),
        (frame(b'{"\xff": 1}'), "not valid JSON"),
        (frame(b'{"a":1,"a":2}'), "does not have dtype, shape and data_offsets"),
        (frame(json.dumps(GOOD).encode().replace(b'{"a"', b'{"a":1,"a"')), "does not have dtype"),
        (frame(json.dumps(GOOD).encode().replace(b'{"dtype"', b'{"dtype":"F32","dtype"')), "'dtype' twice"),
        (frame(b'{"__metadata__":{},"__metadata__":{}}'), "holds the key '__metadata__' twice"),
        (frame(b'{"__metadata__":{"k":1,"k":"2"}}', b""), "text to text"),
        (frame({"__metadata__": {"k": 1}}, b""), "text to text"),
        (frame({"__metadata__": []}, b""), "text to text"),
        (frame({"a": 1}), "does not have dtype, shape and data_offsets"),
        (frame({"a": {"dtype": "F32", "shape": [4], "extra": [0, 16]}}), "does not have dtype"),
        (entry(dtype="F5"), "unknown dtype"),
        (entry(dtype="F4"), "do not fit"),
        (entry(dtype=["F32"]), "unknown dtype"),
        (entry(shape=[2, -2]), "no sound shape"),
        (entry(shape=[2.0, 2]), "no sound shape"),
        (entry(shape=[True, 4]), "no sound shape"),
        (entry(shape=[2**60, 0]), "no sound shape"),
        (entry(shape=[1] * 9), "no sound shape"),
        (entry(shape="22"), "no sound shape"),
        (entry(data_offsets=[0]), "no sound data_offsets"),
        (entry(data_offsets=[16, 0]), "do not fit its shape"),
        (entry(shape=[2, 3]), "do not fit its shape"),
        (entry(data_offsets=[16, 32]), "hole or overlaps"),
        (frame(GOOD | {"b": GOOD["a"]}), "hole or overlaps"),
    ],
)
def test_refuses(data: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(NotScannable, match=words) as caught:
        read_header(path)
    assert caught.value.hint
    assert len(str(caught.value)) < 300


def test_refuses_what_is_no_regular_file(tmp_path: Path) -> None:
    with pytest.raises(NotScannable, match="is a folder"):
        read_header(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotScannable, match="not a regular file"):
        read_header(tmp_path / "pipe")


def test_links_are_followed_to_a_regular_file_only(tmp_path: Path) -> None:
    """A file of the Hub's cache is a relative link into `blobs/`."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / ("0" * 40)
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / "ab12").write_bytes(frame(GOOD))
    link = snapshot / "x.safetensors"
    link.symlink_to("../../blobs/ab12")
    header = read_header(link)
    assert (header.path, list(header.tensors)) == (link, ["a"])
    (blobs / "ab12").unlink()
    with pytest.raises(LorauditError, match="no such file") as caught:
        read_header(link)
    assert caught.value.exit_code == 2
    os.mkfifo(blobs / "ab12")
    with pytest.raises(NotScannable, match="not a regular file"):
        read_header(link)
    link.unlink()
    link.symlink_to(link)
    with pytest.raises(LorauditError, match=r"cannot read x\.safetensors"):
        read_header(link)


@pytest.mark.parametrize("name", ["name[/]", "[red]x", "::error::x", "=1+1", "<script>x"])
def test_a_name_of_markup_is_an_ordinary_name(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(frame({name: GOOD["a"]}))
    assert list(read_header(path).tensors) == [name]


def test_a_name_in_a_message_is_harmless(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(frame({"\x1b[31m\n\u202e": 1}))
    with pytest.raises(NotScannable) as caught:
        read_header(path)
    assert str(caught.value).isprintable()
    assert "tensor '(hidden)'" in str(caught.value)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    refusal = ""
    try:
        read_header(path)
    except NotScannable as error:
        refusal = str(error)
    assert refusal.isprintable()


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_one_changed_byte_is_never_read_more_kindly_than_the_reference_does(tmp_path: Path, data) -> None:
    whole = bytearray(save({"b": np.ones((2, 3), np.float32), "a": np.ones(4, np.float16)}, {"k": "v"}))
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "x.safetensors"
    path.write_bytes(whole)
    try:
        ours = read_header(path)
    except NotScannable:
        return
    with safe_open(path, "np") as theirs:
        assert set(ours.tensors) == set(theirs.keys())
        assert ours.metadata == (theirs.metadata() or {})
        for key, info in ours.tensors.items():
            assert list(info.shape) == theirs.get_slice(key).get_shape()
            assert info.dtype == theirs.get_slice(key).get_dtype()


@pytest.mark.parametrize(
    ("header", "hidden"),
    [
        (b'{"__metadata__":{"k":"hidden","k":"shown"},%s}', Hidden("metadata key", "k", "hidden")),
        (
            b'{"__metadata__":{"k":"shown"},"a":{"dtype":"U8","shape":[7],"data_offsets":[0,7]},%s}',
            Hidden("tensor name", "a", '{"dtype": "U8", "shape": [7], "data_offsets": [0, 7]}'),
        ),
        (
            b'{"__metadata__":{"k":"shown"},"b":{"dtype":"U8","note":"hi","shape":[0],"data_offsets":[0,0]},%s}',
            Hidden("tensor field", "b", '{"note": "hi"}'),
        ),
        (b'{"__metadata__":{"k":"shown"},%s} \t\t \n', Hidden("padding", "", "5 bytes")),
        (b'  {"__metadata__":{"k":"shown"},%s}', Hidden("padding", "", "2 bytes")),
    ],
)
def test_what_no_loader_shows_is_kept_apart(tmp_path: Path, header: bytes, hidden: Hidden) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(frame(header.replace(b"%s", json.dumps(GOOD).encode()[1:-1])))
    read = read_header(path)
    assert read.hidden == (hidden,)
    assert read.tensors["a"].shape == (2, 2)
    assert read.metadata == {"k": "shown"}
    try:
        with safe_open(path, "np") as theirs:
            assert theirs.metadata() == {"k": "shown"}
            assert theirs.get_slice("a").get_shape() == [2, 2]
    except SafetensorError:
        pass  # A stricter release of the reference parser.


def test_the_padding_of_the_reference_writer_hides_nothing(tmp_path: Path) -> None:
    for spaces in range(9):
        path = tmp_path / "x.safetensors"
        path.write_bytes(frame(json.dumps(GOOD).encode() + b" " * spaces))
        assert read_header(path).hidden == ()


@settings(max_examples=300)
@given(st.text(max_size=300), st.integers(1, 50))
def test_clean_text_is_printable_and_short(text: str, limit: int) -> None:
    result = clean(text, limit)
    assert len(result) <= limit
    assert not any(char in result for char in "\n\r\t\x1b\x9b\u202e\u2066\u200b\u2028\u2029\ud800")
    assert all(char.isprintable() or char.isspace() for char in result if char.isascii())


def test_clean_leaves_plain_text_alone() -> None:
    assert clean("Ada Lovelace, 42 [bold] é 日本") == "Ada Lovelace, 42 [bold] é 日本"
    assert clean("x" * 200, 10) == "x" * 9 + "…"


def test_json_must_be_strict() -> None:
    assert parse_json('{"a": [1, {"b": null}]}', "it") == {"a": [1, {"b": None}]}
    for text in ('{"a": Infinity}', "[" * 100_000, '{"a": {"b": 1, "b": 1}}', "\ud800"):
        with pytest.raises(NotScannable, match="it "):
            parse_json(text, "it")


def test_a_digest_of_two_files_is_that_of_their_bytes_in_order(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a" * 3_000_000)
    (tmp_path / "b").write_bytes(b"b")
    (tmp_path / "ab").write_bytes(b"a" * 3_000_000 + b"b")
    assert file_sha256(tmp_path / "a", tmp_path / "b") == file_sha256(tmp_path / "ab")
    assert file_sha256(tmp_path / "b", tmp_path / "a") != file_sha256(tmp_path / "ab")

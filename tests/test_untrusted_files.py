"""Every way in which a file can be hostile, through the command line; and where each is tested closer by.

| case | here | closer by |
|---|---|---|
| 10^6 metadata keys, 300,000 tensors | refused | `test_lora_header_fuzz.py`, `test_a_bomb_is_refused_before_it_goes_off`: time and memory |
| truncated, trailing bytes, hole, overlap | refused | `test_lora_header.py`, `test_refuses` |
| a tensor or a key twice | refused; told as hidden text | `test_lora_header.py`, `test_what_no_loader_shows_is_kept_apart` |
| ESC, bidi and markup in names, `name[/]` | read | `test_injection.py`: inert in every output |
| JSON nested 5,000 deep, in the header or in a value | refused; incomplete | `test_lora_header.py`, `test_refuses` |
| a number of 4,301 digits, NaN | refused | `test_lora_header.py`, `test_refuses` |
| FIFO, dangling link, link of the Hub's cache | refused; no such file; read | `test_lora_header.py`, `test_links_are_followed_to_a_regular_file_only` |
| Git LFS pointer, web page, 0 bytes, 7 bytes | refused | `test_lora_header.py`, `test_refuses` |
| a header of 2^63 bytes | refused | `test_lora_header_fuzz.py`, `test_nothing_is_allocated_on_the_word_of_a_length` |
"""  # noqa: E501

import json
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.headers import KOHYA
from tests.test_lora_file_fuzz import framed
from tests.test_lora_file_header import GOOD, frame
from tests.test_lora_file_limits import BOMBS

PAIR = {"a": GOOD["a"], "b": GOOD["a"] | {"data_offsets": [16, 32]}}
"""Two tensors of 16 bytes, one after the other."""


TWICE = json.dumps(GOOD).encode()[:-1] + b',"__metadata__":{"k":"v","k":"w"}}'


def entry(**changes: object) -> bytes:
    return frame({"a": GOOD["a"], "b": PAIR["b"] | changes}, bytes(32))


def said(value: str) -> bytes:
    return frame(GOOD | {"__metadata__": {"ss_tag_frequency": value}})


REFUSED = {
    "metadata keys": lambda: framed(BOMBS["metadata keys"]()),
    "tensors": lambda: framed(BOMBS["tensors"]()),
    "truncated": lambda: entry()[:-1],
    "trailing": lambda: entry() + b"x",
    "hole": lambda: entry(data_offsets=[20, 36]) + bytes(4),
    "overlap": lambda: entry(data_offsets=[8, 24])[:-8],
    "nested": lambda: frame(b"[" * 5000 + b"]" * 5000),
    "digits": lambda: frame(b'{"a": ' + b"1" * 4301 + b"}"),
    "NaN": lambda: frame(b'{"a": NaN}'),
    "LFS pointer": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "web page": lambda: b"<!DOCTYPE html><html></html>",
    "0 bytes": lambda: b"",
    "7 bytes": lambda: bytes(7),
    "2^63": lambda: struct.pack("<Q", 2**63) + b"{}",
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, scan, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(REFUSED[case]())
    start = time.process_time()
    code, out, err = scan(path, "--depth", "metadata", "-f", "json")
    assert time.process_time() - start < 1
    assert code == 3
    assert len(err.splitlines()) == 2 and err.startswith("loraudit: error: ")
    assert all(line.isprintable() for line in err.splitlines())
    report = json.loads(out)
    assert report["verdict"]["level"] == "inconclusive"
    assert report["incomplete"][0]["what"] == "target"


@pytest.mark.parametrize(
    ("data", "code", "findings"),
    [
        (entry, 0, []),  # the control
        (lambda: entry().replace(b'"b"', b'"a"'), 3, []),
        (lambda: frame(TWICE), 0, ["LA-HIDDEN-001"]),
        (lambda: said("[" * 5000 + "]" * 5000), 4, ["LA-HIDDEN-002"]),
        (lambda: said('{"a": ' + "1" * 4301 + "}"), 4, ["LA-HIDDEN-002"]),
        (lambda: said('{"a": NaN}'), 0, []),  # Python's own writer writes it
        (lambda: frame({f"{name}[/]": GOOD["a"] for name in ("x\x1b[2J\u202e",)}), 0, []),
    ],
)  # fmt: skip
def test_read_as_far_as_it_can_be(
    data: Callable[[], bytes], code: int, findings: list, scan, tmp_path
) -> None:
    (tmp_path / "x.safetensors").write_bytes(data())
    got, out, _ = scan(tmp_path / "x.safetensors", "--depth", "metadata", "-f", "json")
    assert (got, [finding["id"] for finding in json.loads(out)["findings"]]) == (code, findings)


def test_what_is_no_regular_file(scan, tmp_path: Path) -> None:
    metadata = ("--depth", "metadata")
    os.mkfifo(tmp_path / "pipe.safetensors")
    assert scan(tmp_path / "pipe.safetensors", *metadata)[0] == 3
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / ("0" * 40)
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / "ab12").write_bytes(frame(GOOD | {"__metadata__": dict(KOHYA)}))
    link = snapshot / "x.safetensors"
    link.symlink_to("../../blobs/ab12")
    assert scan(link, *metadata)[0] == 1
    (blobs / "ab12").unlink()
    code, out, err = scan(link, *metadata)
    assert (code, out) == (2, "")
    assert "no such file" in err

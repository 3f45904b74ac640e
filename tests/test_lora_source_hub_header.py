"""The header of a LoRA on the Hub, alone: no byte more than it takes, whatever the server sends."""

import hashlib
import math
from pathlib import Path

import hub as fake
import pytest

from loraudit.errors import LorauditError, NotScannable
from loraudit.lora import load_lora
from loraudit.lora.file.header import MAX_HEADER_BYTES, parse_header, read_header
from loraudit.lora.source.address import HubSpec
from loraudit.lora.source.hub import fetch_header


@pytest.mark.parametrize("redirect", [False, True])
@pytest.mark.parametrize("padding", [0, 300_000])
def test_a_header_alone(hub: fake.Hub, redirect: bool, padding: int) -> None:
    data = fake.with_header(fake.a_tensor(1 << 21, padding), 1 << 21)
    hub.files, hub.redirect = {"ada.safetensors": data}, redirect
    got = fetch_header(HubSpec("ns/name", None, "ada.safetensors"))
    end = 8 + int.from_bytes(data[:8], "little")
    assert (got.data, got.size_bytes, got.commit) == (data[:end], len(data), fake.COMMIT)
    assert got.sha256 == (hashlib.sha256(data).hexdigest() if redirect else None)
    assert got.origin == f"hf://ns/name@{fake.COMMIT}/ada.safetensors"
    files = [entry for entry in hub.gets() if entry[0] == ("storage" if redirect else "hub")]
    assert [entry[2] for entry in files] == ["bytes=0-262143", f"bytes=262144-{end - 1}"][: 1 + bool(padding)]
    assert sum(hub.sent) <= max(1 << 18, end)
    # The token goes to the Hub and nowhere else.
    assert all(auth == (f"Bearer {fake.TOKEN}" if place == "hub" else None) for place, _, _, auth in hub.seen)
    assert any(place == "storage" for place, *_ in hub.seen) is redirect


def test_the_header_reads_as_that_of_the_file(hub: fake.Hub, kohya: bytes, tmp_path: Path) -> None:
    hub.files = {"ada.safetensors": kohya}
    got = fetch_header(HubSpec("ns/name"))
    here, there = (
        read_header(tmp_path / "made.safetensors"),
        parse_header(got.data, Path("ada"), got.size_bytes),
    )
    assert (here.tensors, here.metadata, here.size_bytes) == (there.tensors, there.metadata, there.size_bytes)


def test_a_server_that_ignores_ranges(hub: fake.Hub) -> None:
    """It may send all it has; we stop reading where the header ends."""
    size = 1 << 26
    hub.files, hub.ranges = {"ada.safetensors": fake.with_header(fake.a_tensor(size, 300_000), size)}, 0
    spec = HubSpec("ns/name", None, "ada.safetensors")
    got = fetch_header(spec)
    assert len(got.data) == 8 + int.from_bytes(got.data[:8], "little")
    assert len(hub.gets()) == 1
    # Whatever else it sent lies in the buffers of sockets.
    assert hub.sent[0] < size // 4
    # The control: a client that wants the whole file gets it from this server, byte for byte.
    with pytest.raises(NotScannable):
        load_lora(fake.ADDRESS)
    assert hub.sent[1] == len(hub.files["ada.safetensors"])


def test_a_compressed_header_is_not_asked_for(hub: fake.Hub) -> None:
    hub.files, hub.gzip = {"ada.safetensors": fake.with_header(fake.a_tensor(10), 10)}, True
    got = fetch_header(HubSpec("ns/name", None, "ada.safetensors"))
    assert hub.files["ada.safetensors"].startswith(got.data)


def test_a_server_that_changes_its_mind_about_ranges(hub: fake.Hub) -> None:
    """The second part of a header is not taken from another place of the file."""
    hub.files = {"ada.safetensors": fake.with_header(fake.a_tensor(1 << 20, 300_000), 1 << 20)}
    hub.ranges = 1
    with pytest.raises(LorauditError, match="not with the bytes asked for"):
        fetch_header(HubSpec("ns/name", None, "ada.safetensors"))


@pytest.mark.parametrize("ranges", [0, math.inf])
@pytest.mark.parametrize("excess", [0, 1])
def test_the_bound(hub: fake.Hub, ranges: float, excess: int) -> None:
    """A header as long as is allowed is read to its end and not a byte further; a longer one is not read."""
    length = MAX_HEADER_BYTES + excess
    hub.files = {"ada.safetensors": length.to_bytes(8, "little") + b"{" + b" " * (length + 100_000)}
    hub.ranges = ranges
    got = fetch_header(HubSpec("ns/name", None, "ada.safetensors"))
    assert len(got.data) == (512 if excess else 8 + MAX_HEADER_BYTES)
    with pytest.raises(NotScannable):
        parse_header(got.data, Path("ada"), got.size_bytes)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"abc", "truncated"),
        (b"<!DOCTYPE html>" + b" " * 2000, "web page"),
        (b"\x80\x04" + bytes(2000), "pickle"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    ],
)
def test_other_files_are_named(hub: fake.Hub, data: bytes, words: str) -> None:
    hub.files = {"ada.safetensors": data}
    got = fetch_header(HubSpec("ns/name", None, "ada.safetensors"))
    with pytest.raises(NotScannable, match=words):
        parse_header(got.data, Path("ada"), got.size_bytes)


def test_a_size_that_is_not_true(hub: fake.Hub) -> None:
    data = fake.with_header(fake.a_tensor(100), 100)
    hub.files, hub.redirect, hub.claimed_size = {"ada.safetensors": data}, True, 1 << 40
    got = fetch_header(HubSpec("ns/name", None, "ada.safetensors"))
    assert len(got.data) < len(data)
    with pytest.raises(NotScannable, match="bytes follow the last tensor"):
        parse_header(got.data, Path("ada"), got.size_bytes)

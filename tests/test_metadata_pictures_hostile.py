"""Pictures that are broken or hostile: read as far as they go, at a bounded cost, and never by a decoder."""

import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loraudit.metadata.pictures import Picture, read_picture
from tests.pictures import (
    NAME,
    PLACES,
    chunk,
    exif,
    gif,
    heif,
    itxt,
    jpeg,
    png,
    read,
    resources,
    saved,
    told,
    xmp,
)


def test_no_pixel_is_decoded(tmp_path: Path) -> None:
    """Pixels that are broken, and so many that no memory holds them, take nothing away and cost nothing."""
    word = chunk(b"tEXt", b"Title\0zwx")
    size = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 16, 6, 0, 0, 0)
    huge = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", b"no zlib") + word
    assert told(read(tmp_path, huge)) == ["zwx"]
    block = exif(NAME)
    webp = b"RIFF\0\0\0\0WEBPVP8L\4\0\0\0\xff\xff\xff\xffEXIF" + struct.pack("<I", len(block)) + block
    no_frame = b"\xff\xd8\xff\xe1" + struct.pack(">H", len(block) + 2) + block + b"\xff\xda\0\2"
    for data in (webp, no_frame):
        assert read(tmp_path, data) == Picture((("Artist", NAME),), located=False, whole=True)


def directory(order: str, entries: bytes, count: int, following: int = 0) -> bytes:
    return struct.pack(f"{order}H", count) + entries + struct.pack(f"{order}I", following)


def entry(tag: int, kind: int, count: int, value: int) -> bytes:
    return struct.pack("<HHII", tag, kind, count, value)


def itself() -> bytes:
    """Directories of Exif and GPS at the place of the first, which is also the one after it."""
    pointers = entry(0x8769, 4, 1, 8) + entry(0x8825, 4, 1, 8)
    return b"II*\0\x08\0\0\0" + directory("<", pointers, 2, 8)


def everything() -> bytes:
    """A thousand tags of the whole file each, for a hundred directories."""
    pages = [
        directory("<", b"".join(entry(tag, 7, 4_000_000, 0) for tag in range(1_000)), 1_000, 0)
        for _ in range(99)
    ]
    data, at = b"II*\0\x08\0\0\0", 8
    for page in pages:
        at += len(page)
        data += page[:-4] + struct.pack("<I", at)
    return data + directory("<", b"", 0) + bytes(4_000_000)


LAUGHS = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "' + b"ha" * 50 + b'">'
LAUGHS += b"".join(
    b'<!ENTITY %c "' % (letter + 1) + b"&%c;" % letter * 20 + b'">' for letter in range(97, 120)
)
LAUGHS += b"]><dc:title>&x;</dc:title>"


def in_pieces(count: int) -> bytes:
    once = struct.pack(">HHHH", 7, 0, 0, 1)
    data = heif(b"heic", b"Exif", exif(NAME)[6:])
    assert once in data
    return data.replace(once, struct.pack(">HHHH", 7, 0, 0, count))


HOSTILE: dict[str, tuple[Callable[[], bytes], bool]] = {
    "tags that point to themselves": (itself, True),
    "the same as Exif": (lambda: jpeg(0xE1, b"Exif\0\0" + itself()), True),
    "pages of everything": (everything, False),
    "more tags than any camera has": (
        lambda: b"II*\0\x08\0\0\0" + directory("<", entry(0x10E, 2, 4, 0) * 65_535, 65_535),
        False,
    ),
    "2^63 tags": (lambda: b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2**63) + bytes(100), False),
    "a thousand blocks of Exif": (lambda: png(*[chunk(b"eXIf", exif(NAME)[6:])] * 1_000), False),
    "hex that is none": (lambda: png(chunk(b"tEXt", b"Raw profile type exif\0\nexif\n4\nzz")), False),
    "packed hex of 200 MB": (
        lambda: png(chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\n" * 200_000_000, 9))),
        False,
    ),
    "a million chunks": (lambda: png(*[chunk(b"tEXt", b"a\0")] * 1_000_000), False),
    "a million sub-blocks": (lambda: gif(b"!\xf9" + b"\1a" * 1_100_000), False),
    "a GIF of nothing but blocks": (lambda: gif(b"!\xfe\0" * 1_100_000), False),
    "an item in pieces": (lambda: in_pieces(65_535), False),
    "an item in one piece": (lambda: in_pieces(1), True),  # the control
    "an item beyond the end": (lambda: heif(b"avif", b"Exif", exif(NAME), moved=2**31), False),
    "IPTC that is none": (lambda: jpeg(0xED, b"Photoshop 3.0\0" + resources(b"\x1d" * 40)), False),
    "entities that grow": (lambda: saved("jpeg", xmp=LAUGHS), True),
    "tags of XMP without end": (lambda: png(itxt(b"<a:" * 300_000)), True),
    "names of XMP without end": (lambda: png(itxt(b"<a " + b"a:" * 450_000 + b">")), True),
    "spaces of XMP without end": (lambda: png(itxt(b"<a" + b" a:b " * 150_000 + b"=" + b" " * 99_000)), True),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_pictures_cost_little(tmp_path: Path, kind: str, recwarn: pytest.WarningsRecorder) -> None:
    make, whole = HOSTILE[kind]
    path = tmp_path / "a"
    path.write_bytes(make())
    start = time.process_time()
    picture = read_picture(path)
    assert time.process_time() - start < 2
    assert picture is not None and picture.whole == whole
    assert sum(len(text) for _, text in picture.texts) <= 1_000_000
    assert not recwarn.list  # what Pillow warns of goes into the report, not onto the terminal


def test_entities_are_never_looked_up(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("zqxj")
    packet = f'<!DOCTYPE x [<!ENTITY a SYSTEM "{secret.as_uri()}">]><dc:title>&a;</dc:title>'.encode()
    picture = read(tmp_path, saved("jpeg", xmp=packet))
    assert told(picture) == ["&a;"] and "zqxj" not in str(picture.texts)
    assert max(len(text) for _, text in read(tmp_path, saved("jpeg", xmp=LAUGHS)).texts) == len(LAUGHS)
    named = xmp("A &amp; B &#x26; &lt;C&gt;")
    assert "A & B & <C>" in told(read(tmp_path, saved("jpeg", xmp=named)))


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(sorted(PLACES)), st.data())
def test_a_broken_picture_is_read_or_not(tmp_path: Path, place: str, data) -> None:
    content = bytearray(PLACES[place](NAME))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
    path = tmp_path / "x"
    path.write_bytes(content)
    read_picture(path)

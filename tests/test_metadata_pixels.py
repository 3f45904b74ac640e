"""Prompts in the lowest bits of a PNG's pixels: read however they were hidden, at little cost, or named."""

import gzip
import io
import json
import random
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from loraudit.lora.source.source import find_source
from loraudit.metadata import read_exposure
from loraudit.metadata.pictures import Picture, picture_of
from loraudit.metadata.unread import gaps
from tests.headers import DIFFUSERS, audit, write
from tests.pictures import chunk

PROMPT = "Zo\u00eb Bergstr\u00f6m woman in her kitchen\nNegative prompt: blurry\nSteps: 20, Seed: 7"
NAMES = {("RGBA", False): "rgb", ("RGBA", True): "png", ("RGB", False): "rgb", ("LA", True): "png"}
SIZE = (40, 220)


def painted(mode: str, size: tuple[int, int]) -> Image.Image:
    shade = Image.linear_gradient("L").resize(size)
    noise = Image.frombytes("L", size, random.Random(4).randbytes(size[0] * size[1]))
    mixed = [shade, Image.blend(shade, noise, 0.1), noise.rotate(180), shade.rotate(180)]
    return Image.merge(mode, mixed[: len(mode)])


def filtered(kind: int, row: bytes, above: bytes, step: int) -> bytes:
    """A row under one of the five filters of PNG."""
    left, corner = bytes(step) + row, bytes(step) + above

    def guess(a: int, b: int, c: int) -> int:
        nearest = min((abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c))[2]
        return (0, a, b, (a + b) // 2, nearest)[kind]

    return bytes(
        [kind, *((v - guess(*abc)) % 256 for v, *abc in zip(row, left, above, corner, strict=False))]
    )


def encoded(picture: Image.Image, deep: bool = False) -> bytes:
    """A PNG whose rows go through all filters, with 8 or 16 bits for each channel."""
    (width, height), step = picture.size, len(picture.mode) * (2 if deep else 1)
    raw = picture.tobytes()
    raw = bytes(byte for value in raw for byte in (value, value ^ 0x5B)) if deep else raw
    rows = [bytes(width * step)] + [raw[at : at + width * step] for at in range(0, len(raw), width * step)]
    lines = [filtered(y % 5, row, rows[y], step) for y, row in enumerate(rows[1:])]
    kind = {"LA": 4, "RGB": 2, "RGBA": 6}[picture.mode]
    shape = struct.pack(">IIBBBBB", width, height, 16 if deep else 8, kind, 0, 0, 0)
    packed = zlib.compress(b"".join(lines))
    half = len(packed) // 2
    pieces = chunk(b"IDAT", packed[:half]) + chunk(b"IDAT", packed[half:])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", shape) + pieces + chunk(b"IEND", b"")


def bits_of(text: str, name: str, packed: bool, zero: bool) -> str:
    data = gzip.compress(text.encode(), mtime=0) if packed else text.encode()
    head = f"stealth_{name}{'comp' if packed else 'info'}".encode() + b"\0" * zero
    return "".join(f"{byte:08b}" for byte in head + struct.pack(">I", len(data) * 8) + data)


def hidden(
    bits: str,
    mode: str = "RGBA",
    alpha: bool = True,
    by_columns: bool = True,
    size: tuple[int, int] = SIZE,
    deep: bool = False,
) -> bytes:
    """A PNG with `bits` in its pixels, as the programs write them that hide prompts."""
    picture = painted(mode, size)
    pixels, left = picture.load(), iter(bits)
    width, height = size
    places = [(x, y) for x in range(width) for y in range(height)]
    for place in places if by_columns else sorted(places, key=lambda place: (place[1], place[0])):
        values = list(pixels[place])
        for channel in [len(mode) - 1] if alpha else range(3):
            bit = next(left, None)
            if bit is not None:
                values[channel] = values[channel] & ~1 | int(bit)
        pixels[place] = tuple(values)
    assert next(left, None) is None
    return encoded(picture, deep)


@pytest.mark.parametrize("deep", [False, True], ids=["8 bits", "16 bits"])
@pytest.mark.parametrize("zero", [False, True], ids=["15 bytes", "16 bytes"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
@pytest.mark.parametrize("by_columns", [False, True], ids=["rows", "columns"])
@pytest.mark.parametrize(("mode", "alpha"), NAMES)
def test_a_hidden_prompt_is_read(mode, alpha, by_columns, packed, zero, deep) -> None:
    data = hidden(bits_of(PROMPT, NAMES[mode, alpha], packed, zero), mode, alpha, by_columns, SIZE, deep)
    assert picture_of(data) == Picture((("parameters", PROMPT),), located=False, whole=True)


@settings(max_examples=40, deadline=None)
@given(st.text(min_size=1, max_size=60), st.sampled_from(list(NAMES)), st.booleans(), st.booleans())
def test_any_words_come_back(text, mode_alpha, by_columns, packed) -> None:
    data = hidden(bits_of(text, NAMES[mode_alpha], packed, False), *mode_alpha, by_columns)
    shown = text.encode().decode().strip("\0 \r\n\t\ufeff")
    picture = picture_of(data)
    assert picture is not None and [words for _, words in picture.texts] == ([shown] if shown else [])


@pytest.mark.parametrize("mode", ["RGBA", "RGB", "LA", "L", "P"])
@pytest.mark.parametrize("size", [(1, 1), (4, 4), (300, 1), (1, 300), SIZE])
def test_pixels_that_hide_nothing_say_nothing(mode, size) -> None:
    out = io.BytesIO()
    picture = painted("RGBA" if mode == "RGBA" else "RGB", size)
    (picture if mode == "RGBA" else picture.convert(mode)).save(out, "png")
    for length in range(0, len(out.getvalue()), 37):
        assert picture_of(out.getvalue()[: length + 40]) == Picture((), located=False, whole=True)


def test_a_picture_beside_a_file_gives_its_prompt_away(tmp_path: Path) -> None:
    folder = tmp_path / "lora"
    folder.mkdir()
    write(folder / "pytorch_lora_weights.safetensors", DIFFUSERS)
    novel = {
        "Description": "ada in the snow",
        "Software": "NovelAI",
        "Comment": json.dumps({"prompt": "ada"}),
    }
    for text, quotes in (
        (PROMPT, (PROMPT.split("\n", maxsplit=1)[0],)),
        (json.dumps(novel), ("ada in the snow", "ada")),
    ):
        (folder / "a.png").write_bytes(hidden(bits_of(text, "png", True, False)))
        found = audit(folder)
        assert set(found) == {"LA-IMAGE-002", "LA-CAPTION-002"}
        assert found["LA-CAPTION-002"].quotes == quotes
        assert gaps(read_exposure(find_source(folder))) == ()


def test_these_pictures_are_sound() -> None:
    """Every row has a filter of its own, and Pillow reads the pixels as they were."""
    for mode, _ in NAMES:
        with Image.open(io.BytesIO(encoded(painted(mode, SIZE)))) as shown:
            assert shown.mode == mode and shown.tobytes() == painted(mode, SIZE).tobytes()


def too_long(length: int) -> bytes:
    bits = "".join(f"{byte:08b}" for byte in b"stealth_pnginfo" + struct.pack(">I", length * 8))
    return hidden(bits, size=(64, 300))


def bomb(packed: bytes, width: int = 20_000, height: int = 20_000) -> bytes:
    shape = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", shape) + packed + chunk(b"IEND", b"")


def laced(data: bytes) -> bytes:
    """The picture as if its rows were laced, which moves every pixel."""
    return data[:28] + b"\1" + data[29:]


UNREAD: dict[str, tuple[Callable[[], bytes], bool, bool]] = {
    "a text that is longer than the picture": (lambda: too_long(5_000), False, False),
    "a text of no length": (lambda: too_long(0), False, False),
    "a text of 500 MB": (lambda: too_long(0x0FFFFFFF), False, False),
    "gzip that is none": (
        lambda: hidden(bits_of(PROMPT, "png", False, False).replace(
            "".join(f"{byte:08b}" for byte in b"info"), "".join(f"{byte:08b}" for byte in b"comp"), 1)),
        False, False,
    ),
    "gzip of 30 MB": (
        lambda: hidden(bits_of("a" * 30_000_000, "png", True, False), size=(600, 600)), False, False,
    ),
    "pixels that are laced": (lambda: laced(hidden(bits_of(PROMPT, "png", True, False))), True, True),
    "rows of 80 kB without end": (lambda: bomb(chunk(b"IDAT", zlib.compress(bytes(10**7)))), True, False),
    "rows beyond memory": (lambda: bomb(chunk(b"IDAT", zlib.compress(b"")), 2**31 - 1), True, True),
    "blocks of nothing": (
        lambda: bomb(chunk(b"IDAT", b"\x78\x01" + b"\0\0\0\xff\xff" * 2_000_000), 50, 50), True, True,
    ),
    "a million chunks": (lambda: bomb(chunk(b"IDAT", b"") * 1_000_000, 50, 50), False, False),
    "pixels that are no zlib": (lambda: bomb(chunk(b"IDAT", b"no zlib"), 50, 50), True, False),
    "no pixels": (lambda: bomb(b""), True, False),
    "a picture of no size": (lambda: bomb(chunk(b"IDAT", zlib.compress(b"")), 0), True, False),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNREAD)
def test_what_is_not_read_costs_little_and_is_said(kind: str) -> None:
    make, whole, pixels = UNREAD[kind]
    data = make()
    start = time.process_time()
    picture = picture_of(data)
    assert time.process_time() - start < 1
    assert picture is not None and (picture.whole, picture.pixels) == (whole, pixels)
    assert sum(len(text) for _, text in picture.texts) <= 1_000_000

"""Pictures inside metadata, such as thumbnails and covers: their words are read like any picture's."""

import base64
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from loraudit.lora.source.source import find_source
from loraudit.metadata import read_exposure, traces
from loraudit.metadata.inside import Inside
from loraudit.metadata.judge import judge_metadata
from loraudit.metadata.scrub import scrub
from loraudit.metadata.unread import gaps
from tests.headers import audit, write
from tests.pictures import HOME, NAME, PLACES, chunk, exif, itxt, png, profile, saved, xmp

PERSON = (
    b"<Iptc4xmpExt:PersonInImage><rdf:li>Zo\xc3\xab Bergstr\xc3\xb6m</rdf:li></Iptc4xmpExt:PersonInImage>"
)
SPELLED: dict[str, Callable[[bytes], dict[str, str]]] = {
    "a thumbnail": lambda data: {"modelspec.thumbnail": f"data:image/png;base64,{code(data)}"},
    "a thumbnail, in capitals": lambda data: {"modelspec.thumbnail": f"DATA:IMAGE/PNG;BASE64,{code(data)}"},
    "a thumbnail in lines": lambda data: {
        "modelspec.thumbnail": "data:image/png;base64,"
        + "\n".join(code(data)[i : i + 76] for i in range(0, 4000, 76))
    },
    "a thumbnail in percents": lambda data: {"modelspec.thumbnail": f"data:image/png,{quote(data)}"},
    "base64 that is safe for addresses": lambda data: {
        "modelspec.thumbnail": f"data:image/png;base64,{code(data).replace('+', '-').replace('/', '_')}"
    },
    "base64 without its end": lambda data: {"x": code(data).rstrip("=")},
    "base64 alone": lambda data: {"cover": code(data)},
    "covers": lambda data: {"ssmd_cover_images": json.dumps([f"data:image/png;base64,{code(data)}"])},
    "a cover with escapes": lambda data: {
        "ssmd_cover_images": json.dumps([f"data:image/png;base64,{code(data)}"]).replace("/", "\\/")
    },
    "a cover in other letters": lambda data: {
        "x": json.dumps({"a": f"data:image/png;base64,{code(data)}"}).replace("data:", "\\u0064ata:")
    },
    "a source of a merge": lambda data: {
        "sshs_cp0": json.dumps(
            {"sshs_cp1": json.dumps({"modelspec.thumbnail": f"data:image/png;base64,{code(data)}"})}
        )
    },
}


def code(data: bytes) -> str:
    return base64.b64encode(data).decode()


def left_out(path: Path) -> list[str]:
    return [gap.what for gap in gaps(read_exposure(find_source(path)))]


@pytest.mark.parametrize("spelled", SPELLED)
def test_the_words_of_a_thumbnail_are_read(tmp_path: Path, spelled: str) -> None:
    source = write(tmp_path / "x.safetensors", SPELLED[spelled](profile("exif", exif(NAME, HOME))))
    found = audit(source)
    assert found["LA-CONTACT-001"].quotes == (NAME,) and found["LA-CONTACT-001"].places == (
        "pictures in the file",
    )
    place = found["LA-IMAGE-003"]
    assert place.title == "A picture in the file tells where it was taken" and "scrub FILE" in place.remedy
    assert not place.quotes and {"LA-IMAGE-001"} <= set(found) and left_out(source) == []
    scrub(source, tmp_path / "pytorch_lora_weights.safetensors")
    assert audit(tmp_path / "pytorch_lora_weights.safetensors") == {}


@pytest.mark.parametrize("place", PLACES)
def test_every_format_is_read_inside_as_well(tmp_path: Path, place: str) -> None:
    def thumbnail(name: str | None) -> Path:
        text = f"data:image/x;base64,{code(PLACES[place](name))}"
        return write(tmp_path / "x.safetensors", {"modelspec.thumbnail": text})

    with_it, without = audit(thumbnail(NAME)), audit(thumbnail(None))
    assert with_it.keys() - without.keys() <= {"LA-CONTACT-001", "LA-CAPTION-002"} and set(without) == {
        "LA-IMAGE-001"
    }
    assert NAME in str([finding.quotes for finding in with_it.values()])
    assert left_out(thumbnail(NAME)) == []


def test_a_person_and_a_prompt(tmp_path: Path) -> None:
    data = png(itxt(PERSON), chunk(b"tEXt", b"parameters\0ada at sea\nSteps: 2"))
    found = audit(write(tmp_path / "x.safetensors", SPELLED["a thumbnail"](data)))
    assert found["LA-NAME-001"].quotes == (NAME,) and found["LA-NAME-001"].severity.value == "high"
    assert found["LA-CAPTION-002"].quotes == ("ada at sea",)


def test_a_secret_in_a_thumbnail_is_masked_everywhere(tmp_path: Path) -> None:
    token = "hf_" + "aB3dE" * 7
    data = png(chunk(b"tEXt", f"Comment\0ada at sea, {token}".encode()))
    found = audit(
        write(tmp_path / "x.safetensors", SPELLED["a thumbnail"](data) | {"ss_output_name": f"ada {token}"})
    )
    assert "LA-SECRET-001" in found
    assert not any(token in finding.told(reveal=True) for finding in found.values())
    assert "ada at sea, hf_aB3…" in found["LA-CAPTION-002"].quotes


def test_a_picture_in_a_side_file_is_beside_the_file(tmp_path: Path) -> None:
    source = write(tmp_path / "x.safetensors", {})
    data = code(saved("jpeg", exif=exif(NAME, HOME)))
    (tmp_path / "x.json").write_text(json.dumps({"image": f"data:image/jpeg;base64,{data}"}))
    found = audit(source)
    assert found["LA-CONTACT-001"].places == ("pictures in files beside it",)
    assert found["LA-IMAGE-003"].title == "A picture beside the file tells where it was taken"
    assert "scrub FILE" not in found["LA-IMAGE-003"].remedy


@pytest.mark.parametrize(
    ("data", "left"),
    [
        (saved("png"), []),
        (b"<svg><desc>Zo\xc3\xab</desc></svg>", ["pictures in the file"]),
        (b"", ["pictures in the file"]),
        (b"\xff\x0a jxl", ["pictures in the file"]),
        (png(chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * 2_000_000))), ["pictures in the file"]),
        (saved("png")[:28] + b"\1" + saved("png")[29:], ["the pixels of pictures in the file"]),
    ],
    ids=["control", "SVG", "nothing", "JPEG XL", "two megabytes of text", "laced"],
)
def test_what_is_not_read_is_named(tmp_path: Path, data: bytes, left: list[str]) -> None:
    source = write(tmp_path / "x.safetensors", SPELLED["a thumbnail"](data))
    assert left_out(source) == left
    assert ("LA-HIDDEN-002" in audit(source)) == (data[:1] == b"\x89" and len(data) > 1_000)


def test_pictures_by_the_thousand_are_bounded(tmp_path: Path) -> None:
    block = xmp(NAME)
    many = [code(png(itxt(block + struct.pack(">I", number)))) for number in range(1_500)]
    source = write(tmp_path / "x.safetensors", {"ssmd_cover_images": json.dumps(many)})
    exposure = read_exposure(find_source(source))
    (inside,) = exposure.inside
    assert isinstance(inside, Inside) and (inside.pictures, inside.unknown) == (1_500, 1_400)
    assert [gap.why[:13] for gap in gaps(exposure)] == ["1400 of 1500 "]
    assert "LA-IMAGE-001" in {finding.id for finding in judge_metadata(traces(exposure))}

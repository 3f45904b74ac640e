"""What lies beside a LoRA: the words of pictures, where they were taken, captions; and nothing in plain ones.

Each format and each place of a text in it: test_metadata_pictures.py.
"""

import io
import json
import os
import struct
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from loraudit.findings.finding import Severity
from loraudit.metadata.pictures import Picture, read_picture
from tests.headers import DIFFUSERS, KOHYA, audit, write

FORMATS = ("png", "jpg", "webp")
PARAMETERS = (
    "photo of zwx in her kitchen\nNegative prompt: ugly\nSteps: 20, Sampler: Euler a, Seed: 1718013120"
)
GPS = {1: "N", 2: (48.0, 51.0, 24.1), 3: "E", 4: (2.0, 21.0, 3.0)}
NOWHERE = {1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)}


def exif(
    tags: dict[int, object] | None = None, more: dict[int, object] | None = None, gps=None
) -> Image.Exif:
    block = Image.Exif()
    block.update(tags or {})
    block.get_ifd(0x8769).update(more or {})
    block.get_ifd(0x8825).update(gps or {})
    return block


def save(path: Path, **options: object) -> Path:
    Image.new("RGB", (16, 16), "navy").save(path, **options)
    return path


def texts(**pairs: str) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    for key, text in pairs.items():
        info.add_text(key, text)
    return info


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A LoRA that says nothing itself."""
    folder = tmp_path / "lora"
    folder.mkdir()
    write(folder / "pytorch_lora_weights.safetensors", DIFFUSERS)
    return folder


@pytest.mark.parametrize("ending", FORMATS)
def test_exif(folder: Path, ending: str) -> None:
    tags = {0x010E: "ada at home", 0x013B: "Jane Doe", 0x8298: "", 0x9C9B: "caf\u00e9".encode("utf-16-le")}
    more = {0xA430: "J. Doe", 0xA431: "S123", 0x9286: b"UNICODE\0" + "a note".encode("utf-16-be")}
    path = save(folder / f"a.{ending}", exif=exif(tags, more, GPS))
    picture = read_picture(path)
    assert picture is not None and picture.located and picture.whole
    assert dict(picture.texts) == {
        "ImageDescription": "ada at home", "Artist": "Jane Doe", "XPTitle": "caf\u00e9",
        "CameraOwnerName": "J. Doe", "BodySerialNumber": "S123", "UserComment": "a note",
    }  # fmt: skip
    found = audit(folder)
    assert {rule: finding.severity.value for rule, finding in found.items()} == {
        "LA-IMAGE-002": "low",
        "LA-IMAGE-003": "medium",
        "LA-CAPTION-002": "low",
        "LA-CONTACT-001": "low",
        "LA-LINK-001": "low",
    }
    assert found["LA-CONTACT-001"].quotes == ("Jane Doe", "J. Doe")
    assert found["LA-IMAGE-003"].numbers == {"pictures": 1}
    assert found["LA-IMAGE-003"].quotes == ()  # the place is never shown
    assert not any("48" in finding.told(reveal=True) for finding in found.values())


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("gps", [None, {0: b"\2\3\0\0"}, NOWHERE])
def test_a_plain_picture_is_one_low_finding(folder: Path, ending: str, gps) -> None:
    save(folder / f"a.{ending}", exif=exif({0x0131: "GIMP 2.10", 0x0110: "Camera 5"}, gps=gps))
    ((rule, finding),) = audit(folder).items()
    assert (rule, finding.severity) == ("LA-IMAGE-002", Severity.LOW)
    assert read_picture(folder / f"a.{ending}") == Picture((), located=False, whole=True)


@pytest.mark.parametrize(
    "text",
    ["CREATOR: gd-jpeg v1.0 (using IJG JPEG v62), quality = 90", "Created with GIMP", "Lavc58.134.100"],
)
def test_what_programs_write_is_not_quoted(folder: Path, text: str) -> None:
    save(folder / "a.jpg", comment=text)
    save(folder / "b.png", pnginfo=texts(Software="Adobe ImageReady", Comment=text))
    save(folder / "c.jpg", exif=exif({0x010E: "OLYMPUS DIGITAL CAMERA"}))
    assert set(audit(folder)) == {"LA-IMAGE-002"}


def test_prompts_in_samples(folder: Path) -> None:
    graph = {"3": {"inputs": {"seed": 1718013120, "text": "zwx at sea"}, "class_type": "CLIPTextEncode"}}
    save(folder / "a.png", pnginfo=texts(parameters=PARAMETERS))
    save(folder / "b.png", pnginfo=texts(prompt=json.dumps(graph)))
    save(folder / "c.jpg", comment="mail jane@example.org, /home/jane/x")
    found = audit(folder)
    assert set(found) == {"LA-IMAGE-002", "LA-CAPTION-002", "LA-CONTACT-001", "LA-PATH-001"}
    finding = found["LA-CAPTION-002"]
    assert finding.quotes[:2] == ("photo of zwx in her kitchen", "zwx at sea")
    assert finding.detail.startswith("Found in pictures beside the file.")
    assert "beside the file" in finding.title and "is not scrubbed" in finding.remedy
    assert "loraudit scrub" not in finding.remedy


def test_a_finding_in_the_file_and_beside_it_says_both(tmp_path: Path) -> None:
    write(tmp_path / "x.safetensors", KOHYA | {"modelspec.trigger_phrase": "zwx"})
    save(tmp_path / "x.png", pnginfo=texts(parameters=PARAMETERS))
    finding = audit(tmp_path / "x.safetensors")["LA-CAPTION-002"]
    assert "loraudit scrub" in finding.remedy and "is not scrubbed" in finding.remedy
    assert "in the file" in finding.title


def test_packed_texts_and_xmp(folder: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Description", "packed", zip=True)
    info.add_itxt("Author", "Zo\u00eb", zip=True)
    xmp = "<dc:creator> <rdf:Seq> <rdf:li>Jane</rdf:li></rdf:Seq></dc:creator> exif:GPSLatitude=1"
    info.add_itxt("XML:com.adobe.xmp", xmp)
    save(folder / "a.png", pnginfo=info)
    picture = read_picture(folder / "a.png")
    assert picture is not None and picture.located and picture.whole
    assert picture.texts == (
        ("Description", "packed"),
        ("Author", "Zo\u00eb"),
        ("creator", "Jane"),
        ("XMP", xmp),
    )
    save(folder / "b.webp", xmp=xmp.encode())
    save(folder / "c.jpg", xmp=xmp.encode())
    for name in ("b.webp", "c.jpg"):
        assert read_picture(folder / name).texts == picture.texts[2:]


def test_captions_of_pictures(folder: Path) -> None:
    (folder / "notes.txt").write_text("no caption of any picture")
    assert audit(folder) == {}
    save(folder / "01.png")
    (folder / "01.txt").write_text("zwx woman, red hair\n")
    save(folder / "02.jpg")
    (folder / "02.caption").write_text("zwx in a caf\u00e9")
    finding = audit(folder)["LA-CAPTION-001"]
    assert (finding.severity, finding.quotes) == (
        Severity.MEDIUM,
        ("zwx woman, red hair", "zwx in a caf\u00e9"),
    )
    assert finding.title == "The captions of the training pictures are beside the file"
    # Of a file that was given, only what bears its name.
    assert audit(folder / "pytorch_lora_weights.safetensors") == {}


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + bytes(4)


def png(*chunks: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b"")


BOMB = zlib.compress(bytes(200_000_000), 9)
BOMBS = {
    "one stream": lambda: png(chunk(b"zTXt", b"a\0\0" + BOMB)),
    "many streams": lambda: png(*[chunk(b"zTXt", b"a\0\0" + BOMB)] * 20),
    "streams that break off": lambda: png(*[chunk(b"zTXt", b"a\0\0" + BOMB[:100_000])] * 40),
    "streams of nothing": lambda: png(*[chunk(b"zTXt", b"a\0\0" + zlib.compress(b""))] * 90_000),
    "chunks": lambda: png(*[chunk(b"IDAT", b"")] * 300_000),
    "directories": lambda: png(
        *[chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xff" + b"\x0e\1\2\0\xff\xff\0\0" * 5000)] * 60
    ),
    "segments": lambda: b"\xff\xd8" + b"\xff\xe1\xff\xffExif\0\0" * 70_000,
    "fill bytes": lambda: b"\xff\xd8" + b"\xff" * 5_000_000,
    "a long text": lambda: png(chunk(b"tEXt", b"parameters\0" + b"a" * 3_000_000)),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_cut_off_and_said(folder: Path, kind: str) -> None:
    (folder / "a.png").write_bytes(BOMBS[kind]())
    start = time.process_time()
    picture = read_picture(folder / "a.png")
    assert time.process_time() - start < 2
    assert picture is not None
    assert sum(len(text) for _, text in picture.texts) <= 1_000_000
    if kind != "streams of nothing":
        assert not picture.whole
        assert audit(folder)["LA-HIDDEN-002"].severity is Severity.INCONCLUSIVE


def test_other_files_are_no_pictures(folder: Path) -> None:
    for name, data in (
        ("a.png", b""),
        ("b.jpg", b"<html>"),
        ("c.webp", b"RIFF\0\0\0\0WAVE"),
        ("d.gif", b"GIF89a"),
    ):
        (folder / name).write_bytes(data)
        assert read_picture(folder / name) is None
    assert set(audit(folder)) == {"LA-IMAGE-002"}
    os.mkfifo(folder / "pipe.png")
    assert audit(folder)["LA-IMAGE-002"].numbers == {"texts": 4}


def sample(ending: str) -> bytes:
    out = io.BytesIO()
    more = {"pnginfo": texts(parameters=PARAMETERS)} if ending == "png" else {"xmp": b"<dc:title>"}
    block = exif({0x010E: "a", 0x013B: "b"}, {0x9286: b"UNICODE\0" + b"a\0" * 9}, GPS)
    Image.new("RGB", (8, 8)).save(out, {"jpg": "jpeg"}.get(ending, ending), exif=block, **more)
    return out.getvalue()


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(FORMATS), st.data())
def test_a_broken_picture_is_read_or_not(tmp_path: Path, ending: str, data) -> None:
    content = bytearray(sample(ending))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(0, len(content) - 1)))
        kind = data.draw(st.sampled_from(["set", "cut", "end"]))
        if kind == "set" and content:
            content[at] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
        elif kind == "cut":
            del content[at : at + 3]
        else:
            del content[max(at, 1) :]
    path = tmp_path / "x"
    path.write_bytes(content)
    read_picture(path)


@pytest.mark.parametrize("name", ["README.md", "readme.md", "Readme.md", "README.MD"])
def test_a_model_card_in_any_spelling(folder: Path, name: str) -> None:
    card = "---\ninstance_prompt: zwx at sea\ntrigger_words: [zwx]\nauthor: Ada Berg\nsubject: Bo Dahl\n"
    (folder / name).write_text(f"{card}tags: [lora, zwx2]\nlibrary_name: diffusers\n---\nAda Dahl\n")
    found = audit(folder)
    assert found["LA-CAPTION-002"].quotes == ("zwx at sea", "zwx")
    assert (found["LA-CONTACT-001"].quotes, found["LA-NAME-001"].quotes) == (("Ada Berg",), ("Bo Dahl",))
    assert {finding.places for finding in found.values()} == {("README.md",)}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_side_files_in_the_encodings_of_windows(folder: Path, encoding: str) -> None:
    mark = "\ufeff" if encoding.endswith("e") else ""
    for name, text in ((".json", '{"activation text": "zwx at sea"}'), (".txt", "zwx at sea")):
        path = folder / f"pytorch_lora_weights{name}"
        path.write_bytes(f"{mark}{text}".encode(encoding))
        found = audit(folder)
        assert found["LA-CAPTION-002"].quotes[0].removeprefix("\\ufeff") == "zwx at sea"
        assert "LA-HIDDEN-002" not in found
        path.unlink()


def test_the_configuration_of_an_adapter_is_read_like_a_side_file(tmp_path: Path) -> None:
    plain = {"peft_type": "LORA", "r": 1, "task_type": None, "target_modules": ["to_q", "x_embedder.proj"]}
    own = {"author": "Ada Berg", "trigger": "zwx at sea", "notes": "of my sister", "subject": "Bo Dahl"}
    folder = tmp_path / "lora"
    folder.mkdir()
    write(folder / "adapter_model.safetensors", {})
    (folder / "adapter_config.json").write_text(json.dumps(plain))
    assert audit(folder) == {}
    (folder / "adapter_config.json").write_text(json.dumps(plain | own))
    found = audit(folder)
    assert found["LA-NAME-001"].quotes == ("Bo Dahl",) and found["LA-CONTACT-001"].quotes == ("Ada Berg",)
    assert found["LA-CAPTION-002"].quotes == ("zwx at sea", "of my sister")

"""Every format of pictures and every place of a text in it: a name is found there, and without it nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin

from loraudit.findings.finding import Severity
from loraudit.metadata.pictures import Picture, read_picture
from tests.headers import DIFFUSERS, audit, write
from tests.pictures import (
    HOME,
    NAME,
    PLACES,
    chunk,
    comment,
    exif,
    gif,
    heif,
    iim,
    jpeg,
    png,
    profile,
    read,
    resources,
    saved,
    told,
    xmp,
)

NAMES = st.text(st.characters(categories=["L"]), min_size=3, max_size=12)
PAIRS = st.builds(lambda *words: " ".join(words), NAMES, NAMES)
LOCATED: dict[str, Callable[[dict | None], bytes]] = {
    "JPEG": lambda places: saved("jpeg", exif=exif(None, places)),
    "PNG": lambda places: saved("png", exif=exif(None, places)),
    "PNG hex": lambda places: profile("exif", exif(None, places)),
    "WebP": lambda places: saved("webp", exif=exif(None, places)),
    "TIFF": lambda places: saved("tiff", exif=exif(None, places)),
    "HEIC": lambda places: heif(b"heic", b"Exif", exif(None, places)[6:]),
    "AVIF": lambda places: heif(b"avif", b"Exif", exif(None, places)[6:]),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "lora"
    folder.mkdir()
    write(folder / "pytorch_lora_weights.safetensors", DIFFUSERS)
    return folder


@pytest.mark.parametrize("place", PLACES)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(name=PAIRS)
def test_a_name_is_found_wherever_it_stands(tmp_path: Path, place: str, name: str) -> None:
    picture = read(tmp_path, PLACES[place](name))
    assert name in " ".join(told(picture)) and picture.whole and not picture.located


@pytest.mark.parametrize("place", PLACES)
def test_without_the_name_there_is_nothing(folder: Path, place: str) -> None:
    (folder / "a.PNG").write_bytes(PLACES[place](None))
    picture = read_picture(folder / "a.PNG")
    assert picture is not None and picture.whole and not picture.located
    assert set(told(picture)) <= {"Created with GIMP"}
    assert set(audit(folder)) == {"LA-IMAGE-002"}


@pytest.mark.parametrize("place", PLACES)
def test_a_picture_that_breaks_off_is_read_as_far_as_it_goes(tmp_path: Path, place: str) -> None:
    data = PLACES[place](NAME)
    path = tmp_path / "a"
    lengths = range(0, len(data), 7)
    for length in lengths:
        path.write_bytes(data[:length])
        picture = read_picture(path)
        words = " ".join(told(picture)) if picture else ""
        assert set(words) <= set(
            f"{NAME} \ufffd\u00c3\u00ab\u00b6GCreatedwithIMP0123456789abcdef\n:_exiftpAP"
        )
    assert lengths


@pytest.mark.parametrize("kind", LOCATED)
def test_coordinates_are_told_and_never_shown(folder: Path, kind: str) -> None:
    picture = read(folder, LOCATED[kind](HOME))
    assert picture == Picture((), located=True, whole=True)
    (folder / "a.heic").write_bytes(LOCATED[kind](HOME))
    finding = audit(folder)["LA-IMAGE-003"]
    assert (finding.severity, finding.quotes) == (Severity.MEDIUM, ())
    assert "48" not in finding.told(reveal=True)
    nan = TiffImagePlugin.IFDRational(0, 0)
    for nowhere in (
        None,
        {0: b"\2\3\0\0"},
        HOME | {2: (0.0, 0.0, 0.0), 4: (0.0, 0.0, 0.0)},
        HOME | {2: (nan,) * 3, 4: (nan,) * 3},
        {1: "N", 2: HOME[2]},
    ):
        assert not read(folder, LOCATED[kind](nowhere)).located


@pytest.mark.parametrize(
    "words",
    [
        "<Iptc4xmpExt:PersonInImage><rdf:Bag><rdf:li>Ada Berg</rdf:li><rdf:li>Bo Dahl</rdf:li></rdf:Bag>"
        "</Iptc4xmpExt:PersonInImage>",
        '<rdf:li mwg-rs:Name="Ada Berg" mwg-rs:Type="Face"/><rdf:li><rdf:Description '
        "mwg-rs:Type='Face' mwg-rs:Name='Bo Dahl'/></rdf:li>",
        "<mwg-rs:Name>Ada Berg</mwg-rs:Name><mwg-rs:Type>Face</mwg-rs:Type>"
        "<mwg-rs:Name>Bo Dahl</mwg-rs:Name>",
        "<MPReg:PersonDisplayName>Ada&#32;Berg</MPReg:PersonDisplayName>"
        '<x MPReg:PersonDisplayName="Bo Dahl">',
        "<digiKam:TagsList><rdf:Seq><rdf:li>People/Ada Berg</rdf:li><rdf:li>People/Bo Dahl</rdf:li>",
        "<lr:hierarchicalSubject><rdf:li><![CDATA[People|Ada Berg]]></rdf:li><rdf:li>people|Bo Dahl</rdf:li>",
    ],
)
def test_people_whose_faces_are_named(folder: Path, words: str) -> None:
    packet = xmp(None).replace(b"</rdf:Desc", words.encode() + b"</rdf:Desc")
    (folder / "a.jpg").write_bytes(saved("jpeg", xmp=packet))
    finding = audit(folder)["LA-NAME-001"]
    assert (finding.severity, finding.quotes) == (Severity.HIGH, ("Ada Berg", "Bo Dahl"))
    assert finding.title == "Pictures beside the file name people"
    assert "scrub FILE" not in finding.remedy
    # A region of no person has a word that names nobody.
    nobody = packet.replace(b"Ada", b"photo").replace(b"Berg", b"face").replace(b"Bo Dahl", b"woman")
    (folder / "a.jpg").write_bytes(saved("jpeg", xmp=nobody))
    assert set(audit(folder)) <= {"LA-IMAGE-002"}


def test_iptc_feeds_the_rules(folder: Path) -> None:
    fields = ((120, b"ada at home"), (25, b"ada"), (25, b"People|Ada Berg"), (92, b"12 Elm Street"))
    (folder / "a.jpg").write_bytes(jpeg(0xED, b"Photoshop 3.0\0" + resources(iim("Bo Dahl", *fields))))
    found = audit(folder)
    assert found["LA-CAPTION-002"].quotes == ("ada at home", "ada")
    assert found["LA-CONTACT-001"].quotes == ("Bo Dahl",)
    assert found["LA-NAME-001"].quotes == ("Ada Berg",)
    assert found["LA-IMAGE-003"].quotes == ()
    assert not any("Elm" in finding.told(reveal=True) for finding in found.values())


@pytest.mark.parametrize("ending", ["webp", "png", "jpeg"])
def test_a_graph_of_comfyui_in_the_tags_of_the_camera(folder: Path, ending: str) -> None:
    block = Image.Exif()
    block[0x0110] = 'prompt:{"6": {"class_type": "CLIPTextEncode", "inputs": {"text": "zwx at sea"}}}'
    block[0x010F] = 'Workflow: {"nodes": []}'
    (folder / "a.webp").write_bytes(saved(ending, exif=block))
    assert audit(folder)["LA-CAPTION-002"].quotes == ("zwx at sea",)
    block[0x0110], block[0x010F] = "prompt 5", "Workflow: "
    (folder / "a.webp").write_bytes(saved(ending, exif=block))
    assert set(audit(folder)) == {"LA-IMAGE-002"}


def test_every_text_of_a_key_is_read(tmp_path: Path) -> None:
    twice = png(*(chunk(b"tEXt", b"parameters\0" + word) for word in (b"first", b"second")))
    assert told(read(tmp_path, twice)) == ["first", "second"]
    twice = gif(comment(b"first"), comment(b"second"))
    assert told(read(tmp_path, twice)) == ["first", "second"]


def test_latin_letters_of_old_programs(tmp_path: Path) -> None:
    for data in (jpeg(0xFE, b"caf\xe9"), png(chunk(b"tEXt", b"Title\0caf\xe9")), gif(comment(b"caf\xe9"))):
        assert told(read(tmp_path, data)) == ["caf\u00e9"]


def test_a_preview_in_capital_letters(tmp_path: Path) -> None:
    write(tmp_path / "x.safetensors", DIFFUSERS)
    (tmp_path / "y.PNG").write_bytes(png())
    assert audit(tmp_path / "x.safetensors") == {}
    (tmp_path / "x.PNG").write_bytes(png(chunk(b"tEXt", b"parameters\0zwx in her kitchen")))
    (tmp_path / "x.preview.JPG").write_bytes(saved("jpeg"))
    found = audit(tmp_path / "x.safetensors")
    assert found["LA-CAPTION-002"].quotes == ("zwx in her kitchen",)
    assert found["LA-IMAGE-002"].quotes == ("x.PNG", "x.preview.JPG")


@pytest.mark.parametrize(
    ("key", "text", "quotes"),
    [
        ("invokeai_metadata", '{"positive_prompt": "zwx at sea", "seed": 4}', ("zwx at sea",)),
        ("sd-metadata", '{"image": {"prompt": [{"prompt": "zwx at sea"}]}}', ("zwx at sea",)),
        ("Dream", '"zwx at sea" -s 50', ('"zwx at sea" -s 50',)),
        ("metadata", '{"prompt": "zwx at sea", "Version": "Fooocus v2"}', ("zwx at sea",)),
        ("a key of somebody", "zwx at sea", ("zwx at sea",)),
        ("Disclaimer", "zwx at sea", ("zwx at sea",)),
        ("Software", "GIMP at sea", ()),
        ("date:create", "some day at sea", ()),
        ("Creation Time", "some day at sea", ()),
        ("exif:Make", "Canon at sea", ()),
        ("Thumb::URI", "file at sea", ()),
        ("fooocus_scheme", "fooocus", ()),
    ],
)
def test_texts_under_the_keys_of_other_programs(folder: Path, key: str, text: str, quotes: tuple) -> None:
    (folder / "a.png").write_bytes(png(chunk(b"tEXt", key.encode() + b"\0" + text.encode())))
    found = audit(folder)
    assert set(found) == {"LA-IMAGE-002", *(["LA-CAPTION-002"] if quotes else [])}
    assert not quotes or found["LA-CAPTION-002"].quotes == quotes

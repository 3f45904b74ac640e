"""Files beside a LoRA: side files, captions, folders of pictures, and which LoRA they belong to."""

import json
from pathlib import Path

import pytest

from loraudit.findings.finding import Severity
from loraudit.lora.source.folder import members_of
from loraudit.lora.source.source import Source
from loraudit.metadata import read_exposure, traces
from loraudit.metadata.judge import judge_metadata
from loraudit.metadata.listing import below
from tests.beside import NAME, folder, left_out, png, put
from tests.headers import audit, write

__all__ = ["folder"]


def each(folder: Path) -> dict[str, dict]:
    """The findings of every LoRA in a folder, by its name."""
    sources = [source for _, source in members_of(folder) if isinstance(source, Source)]
    return {
        source.name: {one.id: one for one in judge_metadata(traces(read_exposure(source)))}
        for source in sources
    }


SIDE_FILES = {
    ".civitai.info": {"trainedWords": ["adab"], "model": {"name": "Ada Berg", "type": "LORA"}},
    ".json": {"activation text": "adab", "name": "Ada Berg", "sd version": "SD1"},
    ".metadata.json": {"tags": ["adab"], "model_name": "Ada Berg", "base_model": "SD 1.5"},
    ".cm-info.json": {"TrainedWords": ["adab"], "ModelName": "Ada Berg"},
}


@pytest.mark.parametrize("ending", SIDE_FILES)
@pytest.mark.parametrize("alone", [True, False])
def test_side_files_in_json(folder: Path, ending: str, alone: bool) -> None:
    put(folder / f"{NAME}{ending}", json.dumps(SIDE_FILES[ending]))
    found = audit(folder if alone else folder / f"{NAME}.safetensors")
    assert {rule: finding.quotes for rule, finding in found.items()} == {
        "LA-CAPTION-002": ("adab",),
        "LA-NAME-002": ("Ada Berg",),
    }
    assert found["LA-NAME-002"].detail.startswith(f"Found in the {ending} beside it.")
    assert "scrub FILE" not in found["LA-NAME-002"].remedy
    put(folder / f"{NAME}{ending}", '{"name": null, "sd version": "SD1", "tags": [], "id": 1}')
    assert audit(folder) == {}
    put(folder / f"{NAME}{ending}", "{")
    assert set(audit(folder)) == {"LA-HIDDEN-002"}


@pytest.mark.parametrize("ending", [".txt", ".description.txt", ".md"])
def test_side_files_in_words(folder: Path, ending: str) -> None:
    put(folder / f"{NAME}{ending}", "adab woman, mail ada@example.org\n")
    found = audit(folder)
    assert set(found) == {"LA-CAPTION-002", "LA-CONTACT-001"}
    assert found["LA-CONTACT-001"].quotes == ("ada@example.org",)
    put(folder / f"other{ending}", "of something else")
    put(folder / f"{NAME}{ending}", "\n")
    assert audit(folder) == {}


def test_a_side_file_that_is_too_long_is_said(folder: Path) -> None:
    put(folder / f"{NAME}.txt", "adab " * 300_000)
    assert left_out(folder) == ["the .txt beside it"]
    assert audit(folder)["LA-HIDDEN-002"].severity is Severity.INCONCLUSIVE


def test_a_file_that_cannot_be_read_is_said_and_costs_no_other(folder: Path, monkeypatch) -> None:
    put(folder / "a.png", png("adab at home"))
    put(folder / "b.png", png("adab at sea"))
    put(folder / "b.txt", "adab, red hair")
    put(folder / f"{NAME}.json", '{"name": "Ada Berg"}')
    assert left_out(folder) == []
    opened = Path.open

    def refuse(path: Path, *given, **more):
        if path.name in {"a.png", "b.txt", f"{NAME}.json"}:
            raise PermissionError(13, "Permission denied")
        return opened(path, *given, **more)

    monkeypatch.setattr(Path, "open", refuse)
    assert left_out(folder) == ["pictures beside the file", "caption files beside it", "the .json beside it"]
    found = audit(folder)
    assert set(found) == {"LA-CAPTION-002", "LA-HIDDEN-002", "LA-IMAGE-002"}
    assert found["LA-CAPTION-002"].quotes == ("adab at sea",)


def test_the_text_of_a_preview_is_its_caption(folder: Path) -> None:
    put(folder / f"{NAME}.png", png())
    put(folder / f"{NAME}.txt", "adab at sea")
    assert set(audit(folder)) == {"LA-CAPTION-001", "LA-IMAGE-002"}


@pytest.mark.parametrize("below_it", ["sample", "samples", "img/10_ada berg woman", "a/b/c"])
def test_pictures_in_folders_below(folder: Path, below_it: str) -> None:
    put(folder / below_it / "01.PNG", png("adab at sea"))
    put(folder / below_it / "01.txt", "adab, red hair")
    found = audit(folder)
    assert found["LA-CAPTION-002"].quotes == ("adab at sea",)
    assert found["LA-CAPTION-001"].quotes == ("adab, red hair",)
    assert found["LA-IMAGE-002"].quotes == (f"{below_it}/01.PNG",)
    named = found.get("LA-NAME-001")
    assert (named is not None) == ("woman" in below_it)
    assert named is None or (named.severity, named.quotes) == (Severity.HIGH, ("ada berg woman",))
    # Of a file that was given, only what bears its name.
    assert audit(folder / f"{NAME}.safetensors") == {}


def test_folders_that_are_not_of_this_lora(folder: Path, tmp_path: Path) -> None:
    put(folder / ".cache" / "x.png", png("adab"))
    put(folder / "other" / "x.png", png("adab"))
    write(folder / "other" / "x.safetensors", {})
    (tmp_path / "far").mkdir()
    put(tmp_path / "far" / "x.png", png("adab"))
    (folder / "link").symlink_to(tmp_path / "far")
    assert audit(folder) == {}


def test_too_many_files_are_said(folder: Path) -> None:
    for number in range(10_001):
        (folder / f"{number}.log").touch()
    assert left_out(folder) == ["the folder"]
    (folder / "1.log").unlink()
    (folder / "2.log").unlink()
    assert left_out(folder) == []


def test_two_loras_look_at_their_photos_as_one_does(tmp_path: Path) -> None:
    tmp_path = tmp_path / "lora"
    tmp_path.mkdir()
    for name in ("epoch1", "epoch2"):
        write(tmp_path / f"{name}.safetensors", {})
    put(tmp_path / "IMG_0001.png", png("adab at sea"))
    put(tmp_path / "IMG_0001.txt", "adab, red hair")
    put(tmp_path / "sample" / "x.png", png("adab at home"))
    put(tmp_path / "photos.zip")
    two = each(tmp_path)
    (tmp_path / "epoch2.safetensors").unlink()
    one = audit(tmp_path)
    assert set(one) == {"LA-CAPTION-001", "LA-CAPTION-002", "LA-IMAGE-002", "LA-BESIDE-001"}
    assert two["epoch1.safetensors"] == two["epoch2.safetensors"] == one


def test_a_preview_belongs_to_one_lora(tmp_path: Path) -> None:
    for name in ("a", "b", "a.b"):
        write(tmp_path / f"{name}.safetensors", {})
        put(tmp_path / f"{name}.preview.PNG", png(f"picture of {name}"))
        put(tmp_path / f"{name}.civitai.info", json.dumps({"trainedWords": [f"word of {name}"]}))
    found = each(tmp_path)
    for name in ("a", "b", "a.b"):
        quotes = found[f"{name}.safetensors"]["LA-CAPTION-002"].quotes
        assert set(quotes) == {f"picture of {name}", f"word of {name}"}


def test_photos_above_the_folders_of_all_loras(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "x.safetensors", {})
        put(tmp_path / name / "own.png", png())
    put(tmp_path / "photos" / "IMG_0001.png", png())
    for name, found in each(tmp_path).items():
        assert found["LA-IMAGE-002"].quotes == ("own.png", "photos/IMG_0001.png"), name


def test_a_folder_is_read_once_for_all_its_loras(tmp_path: Path, monkeypatch) -> None:
    for number in range(20):
        write(tmp_path / f"{number}x.safetensors", {})
    put(tmp_path / "IMG_0001.png", png())
    looked = []
    monkeypatch.setattr("loraudit.metadata.beside.below", lambda *given: looked.append(1) or below(*given))
    assert all(found["LA-IMAGE-002"].quotes == ("IMG_0001.png",) for found in each(tmp_path).values())
    assert looked == [1]
    # Another scan looks again.
    put(tmp_path / "IMG_0002.png", png())
    assert all(len(found["LA-IMAGE-002"].quotes) == 2 for found in each(tmp_path).values())


ALBUM = {
    "title": "IMG_0001.jpg",
    "creationTime": {"timestamp": "1718013120", "formatted": "10 Jun 2024, 11:52:00 UTC"},
    "geoData": {"latitude": 48.137, "longitude": 11.575},
    "people": [{"name": "Ada Berg"}],
    "url": "https://photos.example.org/photo/x",
}
"""What an export of an album says about a photo."""
PACKET = (
    '<x:xmpmeta><rdf:Description exif:GPSLatitude="48,8.2N"><mwg-rs:Name>Ada Berg</mwg-rs:Name>'
    "<dc:description>adab at sea</dc:description></rdf:Description></x:xmpmeta>"
)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("IMG_0001.jpg.json", json.dumps(ALBUM)),
        ("IMG_0001.jpg.supplemental-metadata.json", json.dumps(ALBUM)),
        ("IMG_0001.json", json.dumps([ALBUM])),
        ("IMG_0001.xmp", PACKET),
        ("IMG_0001.jpg.XMP", PACKET),
    ],
)
def test_what_is_told_about_a_picture_beside_it(folder: Path, name: str, text: str) -> None:
    put(folder / "sample" / "IMG_0001.jpg", png())
    assert set(audit(folder)) == {"LA-IMAGE-002"}
    put(folder / "sample" / name, text)
    found = audit(folder)
    assert found["LA-NAME-001"].quotes == ("Ada Berg",)
    assert found["LA-IMAGE-003"].numbers == {"pictures": 1}
    more = {"LA-CAPTION-002"} if text == PACKET else set()
    assert set(found) == {"LA-IMAGE-002", "LA-IMAGE-003", "LA-NAME-001"} | more
    # Of no picture, it is none of ours; with zeros for a place, it tells none.
    (folder / "sample" / name).rename(folder / "sample" / f"other{name[name.index('.') :]}")
    assert set(audit(folder)) == {"LA-IMAGE-002"}
    put(folder / "sample" / name, text.replace("48.137", "0.0").replace("exif:GPSLatitude", "x:y"))
    assert "LA-IMAGE-003" not in audit(folder)
    put(folder / "sample" / name, text + " " * 1_000_001)
    assert left_out(folder) == ["files about pictures beside it"]

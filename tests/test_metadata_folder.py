"""Files beside a LoRA: side files, folders of pictures, what is never opened; nothing read in silence."""

import io
import json
import os
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from loraudit.cli import main
from loraudit.findings.finding import Severity
from loraudit.lora.source.folder import members_of
from loraudit.lora.source.source import Source, find_source
from loraudit.metadata import read_exposure, traces
from loraudit.metadata.judge import judge_metadata
from loraudit.metadata.listing import below
from loraudit.metadata.pictures import read_picture
from loraudit.metadata.unread import gaps
from tests.headers import DIFFUSERS, audit, write

NAME = "pytorch_lora_weights"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A LoRA that says nothing itself, alone in its folder."""
    folder = tmp_path / "lora"
    folder.mkdir()
    write(folder / f"{NAME}.safetensors", DIFFUSERS)
    return folder


def png(text: str = "", mode: str = "RGB") -> bytes:
    info = PngImagePlugin.PngInfo()
    if text:
        info.add_text("parameters", text)
    out = io.BytesIO()
    Image.new(mode, (4, 4)).save(out, "png", pnginfo=info)
    return out.getvalue()


def put(path: Path, data: bytes | str = b"") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def left_out(target: Path) -> list[str]:
    return [gap.what for gap in gaps(read_exposure(find_source(target)))]


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


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ada_photos.zip", "LA-BESIDE-001"),
        ("x.tar.gz", "LA-BESIDE-001"),
        ("x.7z", "LA-BESIDE-001"),
        ("x.RAR", "LA-BESIDE-001"),
        ("d/train.parquet", "LA-BESIDE-001"),
        ("IMG_1_sd.npz", "LA-BESIDE-001"),
        ("ada.ckpt", "LA-PICKLE-001"),
        ("a.pt", "LA-PICKLE-001"),
        ("o.bin", "LA-PICKLE-001"),
    ],
)
def test_what_is_never_opened_is_named(folder: Path, name: str, told: str, monkeypatch) -> None:
    def opened(*_: object, **__: object) -> None:
        raise AssertionError

    put(folder / name, b"\x80")
    monkeypatch.setattr(zipfile, "ZipFile", opened)
    monkeypatch.setattr(tarfile, "open", opened)
    ((rule, finding),) = audit(folder).items()
    assert (rule, finding.severity, finding.quotes) == (told, Severity.MEDIUM, (name,))
    assert name not in finding.told(reveal=False)
    assert audit(folder / f"{NAME}.safetensors") == {}
    if "/" not in name:
        (folder / name).rename(folder / f"{NAME}{name[name.index('.') :]}")
        assert set(audit(folder)) == {told}


UNKNOWN = {
    "a.jxl": b"\xff\x0a" + bytes(40),
    "a.jp2": b"\0\0\0\x0cjP  \r\n\x87\n",
    "a.mp4": b"\0\0\0\x18ftypisom" + bytes(40),
    "a.svg": b"<svg/>",
    "a.HEIC": b"no picture at all",
    "sample/a.psd": b"8BPS\0\1",
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_picture_of_no_known_format_is_not_looked_at(folder: Path, name: str) -> None:
    put(folder / "known.png", png())
    assert left_out(folder) == []
    put(folder / name, UNKNOWN[name])
    (gap,) = gaps(read_exposure(find_source(folder)))
    assert gap.what == "pictures beside the file" and gap.why.startswith("1 of 2 are of a format")
    put(folder / name)
    assert left_out(folder) == []  # an empty file hides nothing


def saved(mode: str, ending: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.new(mode, (4, 4), 1 if mode in "LP" else tuple(range(1, len(mode) + 1))).save(
        out, ending, **options
    )
    return out.getvalue()


def laced(data: bytes) -> bytes:
    """The PNG as if its rows were laced, which moves every pixel."""
    return data[:28] + b"\1" + data[29:]


@pytest.mark.parametrize(
    ("data", "hides"),
    [
        (saved("RGBA", "png"), False),
        (laced(saved("RGBA", "png")), True),
        (laced(saved("LA", "png")), True),
        (laced(saved("RGB", "png")), True),
        (laced(saved("L", "png")), False),
        (saved("RGB", "png"), False),
        (saved("L", "png"), False),
        (saved("RGBA", "webp", lossless=True), True),
        (saved("RGBA", "webp", lossless=True, exif=Image.Exif().tobytes()), True),
        (saved("RGBA", "webp", quality=80), True),
        (saved("RGB", "webp", lossless=True), False),
        (saved("RGB", "webp"), False),
        (saved("RGBA", "tiff"), True),
        (saved("RGB", "tiff"), False),
        (saved("RGB", "jpeg"), False),
    ],
)
def test_pixels_that_may_hide_a_prompt_are_not_looked_at(folder: Path, data: bytes, hides: bool) -> None:
    put(folder / "a.png", data)
    picture = read_picture(folder / "a.png")
    assert picture is not None and picture.pixels == hides and picture.whole
    assert left_out(folder) == (["the pixels of pictures beside the file"] if hides else [])
    assert set(audit(folder)) == {"LA-IMAGE-002"}
    for length in range(min(80, len(data))):  # broken off anywhere
        put(folder / "a.png", data[:length])
        read_picture(folder / "a.png")


@pytest.mark.parametrize(
    ("name", "data", "code", "told"),
    [
        ("a.png", png(), 0, ""),
        ("a.png", png(mode="RGBA"), 0, ""),
        ("a.png", laced(png()), 4, "the pixels of pictures beside the file"),
        ("a.jxl", b"\xff\x0a1", 4, "1 of 1 are of a format that is not read"),
        ("a.zip", b"PK", 0, "LA-BESIDE-001"),
    ],
)
@pytest.mark.parametrize("depth", ["metadata", "weights"])
def test_the_report_says_what_was_not_looked_at(
    folder, monkeypatch, capsys, name, data, code, told, depth
) -> None:
    put(folder / name, data)
    arguments = ["loraudit", "scan", str(folder), "--depth", depth, "-f"]
    codes, shown = [], []
    for more in (["text"], ["json"], ["json", "--fail-on", "medium"]):
        monkeypatch.setattr(sys, "argv", [*arguments, *more])
        with pytest.raises(SystemExit) as stop:
            main()
        codes.append(stop.value.code or 0)
        shown.append(capsys.readouterr().out)
    assert codes == [code, code, 1 if told.startswith("LA-") else code]
    assert told in " ".join(shown[0].split())
    assert ("nothing of what was asked for" in " ".join(shown[0].split())) == (code == 0)
    assert bool(json.loads(shown[1])["incomplete"]) == (code == 4)


def test_a_folder_that_cannot_be_listed_is_said(folder: Path, monkeypatch) -> None:
    (folder / "sample").mkdir()
    scandir = os.scandir

    def refuse(path):
        if str(path).rstrip("/").endswith("sample"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert left_out(folder) == ["the folder"]

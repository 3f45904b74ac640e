"""What lies beside a LoRA and is not read: named in the report, never passed over in silence."""

import io
import json
import os
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from loraudit.cli import main
from loraudit.findings.finding import Severity
from loraudit.lora.source.source import find_source
from loraudit.metadata import read_exposure
from loraudit.metadata.pictures import read_picture
from loraudit.metadata.unread import gaps
from tests.beside import NAME, folder, left_out, png, put
from tests.headers import KOHYA, audit, named_adapter, write

__all__ = ["folder"]


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
        ("o.joblib", "LA-PICKLE-001"),
        ("O.PICKLE", "LA-PICKLE-001"),
        ("x.H5", "LA-BESIDE-001"),
        ("X.ZIP", "LA-BESIDE-001"),
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
    "a.tga": bytes(20),
    "a.PPM": b"P6 1 1 255\n...",
    "a.m4v": b"\0\0\0\x18ftypM4V ",
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


def test_what_lies_beside_costs_the_file_nothing_if_it_cannot_be_read(tmp_path: Path, monkeypatch) -> None:
    """A link to itself, and a folder, a card or a configuration that nobody may read."""
    write(tmp_path / "a.safetensors", KOHYA)
    (tmp_path / "a.json").symlink_to("a.json")
    (tmp_path / "photo.png").symlink_to("photo.png")
    for target in (tmp_path, tmp_path / "a.safetensors"):
        assert "LA-NAME-001" in audit(target) and left_out(target) == []

    def refuse(path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    for name in ("_cards", "below", "named"):
        with monkeypatch.context() as patch:
            patch.setattr(f"loraudit.metadata.beside.{name}", refuse)
            for target in (tmp_path, tmp_path / "a.safetensors"):
                assert "LA-NAME-001" in audit(target)
            assert left_out(tmp_path if name == "below" else target)
    (tmp_path / "p").mkdir()
    named_adapter(tmp_path / "p" / "adapter_model.safetensors", "default")
    put(tmp_path / "p" / "adapter_config.json", "{}")
    monkeypatch.setattr("loraudit.metadata.exposure.start", refuse)
    assert left_out(tmp_path / "p") == ["adapter_config.json"]

"""Reference photos, saved pictures, the contact sheet and what a report shows of them."""

import io
import stat

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from loraudit.audit.album import Album, Gallery, Row, contact_sheet
from loraudit.audit.photos import read_photos
from loraudit.cards import artefact
from loraudit.errors import LorauditError
from loraudit.people.sources import portraits
from loraudit.scores.face import load_tiny_face

HALVES = Image.new("RGB", (40, 20), "red")
HALVES.paste("blue", (20, 0, 40, 20))


def test_photos_come_upright_by_name_and_not_too_large(tmp_path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    HALVES.save(tmp_path / "b.JPG", exif=exif, quality=95)
    Image.new("L", (2048, 512), 255).save(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("no photo")
    (tmp_path / ".c.png").write_bytes(b"hidden")
    photos = read_photos(tmp_path)
    wide, turned = photos.pictures
    assert (photos.unread, photos.missed, photos.gaps) == ((), "", ())
    assert wide.shape == (3, 256, 1024)
    assert wide.dtype == torch.float32 and wide.min() == wide.max() == 1
    assert turned.shape == (3, 40, 20)
    assert turned[0, :15].mean() > 0.9 > 0.1 > turned[0, 25:].mean()


def test_grey_photos_of_16_bits_keep_their_shades(tmp_path) -> None:
    """Pillow's own conversion clips at 255 of 65,535, so that all but black is white."""
    shades = np.linspace(0, 255, 24 * 24).astype(np.uint8).reshape(24, 24)
    Image.fromarray(shades.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(shades).save(tmp_path / "flat.png")
    with Image.open(tmp_path / "deep.png") as opened:
        assert opened.mode.startswith("I;16")
        clipped = np.asarray(opened.convert("RGB"))
    deep, flat = read_photos(tmp_path).pictures
    assert torch.equal(deep, flat) and deep.unique().numel() == 256
    assert (clipped == 255).mean() > 0.9  # the control: what a plain conversion makes of it


def test_transparent_pixels_do_not_show_what_is_below_them(tmp_path) -> None:
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "a.png")
    assert read_photos(tmp_path).pictures[0].min() == 1


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({f"IMG_{i}.HEIC": HEIC for i in range(4)}, "4 of 5 files were not read (.heic)"),
        ({"a.tif": b"", "b.GIF": b"GIF89a", "c.bmp": b"BM"}, "3 of 4 files were not read (.bmp, .gif, .tif)"),
        ({"a.avif": b"", "b.dng": b"", "c.jxl": b""}, "3 of 4 files were not read (.avif, .dng, .jxl)"),
        ({"jane_doe": HEIC}, "1 of 2 files was not read:"),
        ({"more/a.jpg": b"", "more/b.jpg": b""}, "1 of 2 files was not read (a folder)"),
        ({"gone.jpg": None}, "1 of 2 files was not read:"),
    ],
)  # fmt: skip
def test_pictures_that_are_not_read_are_counted(tmp_path, files, said) -> None:
    HALVES.save(tmp_path / "only.png")
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if data is None:
            (tmp_path / name).symlink_to("nowhere.jpg")
        else:
            (tmp_path / name).write_bytes(data)
    photos = read_photos(tmp_path)
    assert len(photos.pictures) == 1
    assert said in photos.missed
    (gap,) = photos.gaps
    assert gap.what == "reference photos" and said in gap.why
    # Names of files may name the person, and reports are passed on.
    assert "jane" not in gap.why and "IMG" not in gap.why
    (tmp_path / "only.png").unlink()
    with pytest.raises(LorauditError, match=r"no photos in .* that can be read"):
        read_photos(tmp_path)


def test_photos_are_known_by_their_bytes_and_what_is_no_picture_is_passed_over(tmp_path) -> None:
    HALVES.save(tmp_path / "a", "JPEG")
    HALVES.save(tmp_path / "b.jfif", "JPEG")
    HALVES.save(tmp_path / "c.photo", "WEBP")
    for name in ("a.txt", "lora.safetensors", "Thumbs.db", "clip.mov"):
        (tmp_path / name).write_bytes(b"\0\0\0\x14ftypqt  " if name == "clip.mov" else b"BM words")
    (tmp_path / "empty").mkdir()
    photos = read_photos(tmp_path)
    assert (len(photos.pictures), photos.unread) == (3, ())


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        (None, b"", "there are no photos in"),
        ("a.png", b"junk", "a.png is not a photo"),
        ("a.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "a.jpg is not a photo"),
        ("\x1b[2J.png", b"", r"\x1b[2J.png is not a photo"),
    ],
)
def test_bad_photos(tmp_path, name, data, words) -> None:
    if name:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(LorauditError) as caught:
        read_photos(tmp_path)
    assert words in str(caught.value) and caught.value.hint


def test_a_truncated_and_an_oversized_photo(tmp_path, monkeypatch) -> None:
    HALVES.resize((400, 200)).effect_spread(9).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LorauditError, match="damaged"):
        read_photos(tmp_path)
    (tmp_path / "a.png").write_bytes(whole)
    for limit in (50_000, 10_000):  # Pillow warns above one limit and refuses above twice that
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(LorauditError, match="too large"):
            read_photos(tmp_path)


def test_no_folder(tmp_path) -> None:
    with pytest.raises(LorauditError, match="there is no folder"):
        read_photos(tmp_path / "gone")


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_an_album_is_for_its_owner_alone(tmp_path) -> None:
    folder = tmp_path / "out"
    folder.mkdir(mode=0o755)
    album = Album.create(folder)
    pictures = torch.rand(2, 3, 8, 8)
    album.add("prompts:class", (7, 8), pictures, torch.full((2, 3, 8, 8), torch.nan), pictures)
    album.finish([torch.zeros(3, 9, 5)])
    assert mode(folder) == 0o700
    assert sorted(path.name for path in folder.iterdir()) == [
        "prompts-class-7-base.png", "prompts-class-7-scrambled.png", "prompts-class-7.png",
        "prompts-class-8-base.png", "prompts-class-8-scrambled.png", "prompts-class-8.png", "sheet.png",
    ]  # fmt: skip
    for path in folder.iterdir():
        assert mode(path) == 0o600
        with Image.open(path) as image:
            assert isinstance(image, PngImagePlugin.PngImageFile)
            image.load()
            assert image.info == {}
    saved = read_photos(folder).pictures[1]
    assert torch.allclose(saved, pictures[0], atol=1 / 255)


def test_an_album_replaces_nothing(tmp_path) -> None:
    (tmp_path / "mine.png").write_bytes(b"mine")
    with pytest.raises(LorauditError, match="is not empty"):
        Album.create(tmp_path)
    with pytest.raises(LorauditError, match="cannot make the folder"):
        Album.create(tmp_path / "mine.png")
    assert (tmp_path / "mine.png").read_bytes() == b"mine"
    inner = Album.create(tmp_path / "a" / "b").within("01")
    assert mode(inner.folder) == mode(inner.folder.parent) == 0o700


def test_the_sheet_marks_the_attack_that_decides(tmp_path) -> None:
    """In the caption of its own row alone; without one, and in all pictures, the sheet is as it was."""
    sheets = {}
    for decides in ("two", "none of them", None):
        album = Album.create(tmp_path / str(decides))
        for number, attack in enumerate(("one", "two")):
            pictures = torch.full((5, 3, 8, 8), number / 2)
            album.add(attack, range(5), pictures, pictures, pictures)
        album.finish([torch.zeros(3, 9, 5)], decides)
        with Image.open(album.folder / "sheet.png") as image:
            sheets[decides] = np.array(image)
    assert np.array_equal(sheets["none of them"], sheets[None])
    rows, columns = np.nonzero((sheets["two"] != sheets[None]).any(axis=-1))
    row = 6 + 4 * (192 + 6 + 30)  # below the photos and three rows of the other attack
    assert row <= rows.min() < rows.max() < row + 30
    whole = Row("two: reconstructed from the file (decides)", [torch.zeros(3, 8, 8)] * 5)
    assert np.array_equal(sheets["two"][row : row + 30], np.array(contact_sheet([whole]))[6:36])
    assert columns.min() > 200, "behind the words that were there"


def test_an_album_without_pictures_has_no_sheet(tmp_path) -> None:
    Album.create(tmp_path / "a").finish([])
    assert list((tmp_path / "a").iterdir()) == []


def test_the_sheet_shows_every_picture_three_times_as_large() -> None:
    colours = [torch.rand(3, 1, 1) for _ in range(6)]
    small = [colour.expand(3, 64, 64) for colour in colours]
    photos = [torch.ones(3, 30, 50) * 0.5] * 9
    sheet = contact_sheet([Row("photos", photos), Row("one", small), Row("two", small[:2])])
    step, left, top = 192 + 6, 6 + 96, 6 + 30 + 96
    assert sheet.size == (6 * step + 6, 3 * (step + 30) + 6)
    for row, pictures in enumerate([photos[:6], small, small[:2]]):
        for column, picture in enumerate(pictures):
            shown = torch.tensor(sheet.getpixel((left + column * step, top + row * (step + 30)))) / 255
            assert torch.allclose(shown, picture[:, 9, 9], atol=0.01)
    assert sheet.getpixel((left + 2 * step, top + 2 * (step + 30))) == (255, 255, 255)
    caption = sheet.crop((6, 6, 120, 30)).convert("L").getextrema()
    assert caption[0] < 100


def opened(png: bytes) -> torch.Tensor:
    """`[3, H, W]` in 0..1."""
    with Image.open(io.BytesIO(png)) as image:
        assert (image.format, image.mode, image.info) == ("PNG", "RGB", {})
        return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255


def test_a_report_shows_the_attack_that_speaks_below_the_photos() -> None:
    pictures = torch.rand(12, 3, 8, 8)
    gallery = Gallery([torch.rand(3, 300, 600)], clear=True)
    assert gallery.sheet(None) is None
    gallery.add("one", range(3), pictures[:3], pictures[:3], pictures[:3])
    gallery.add("two", range(12), pictures, 1 - pictures, torch.full((12, 3, 8, 8), torch.nan))
    assert gallery.sheet(None).attack == gallery.sheet("none of them").attack == "one"
    sheet = gallery.sheet("two")
    assert (sheet.attack, sheet.seeds, sheet.pixelated) == ("two", tuple(range(8)), False)
    assert [(row.kind, len(row.pngs)) for row in sheet.rows] == [
        ("reference", 1), ("tuned", 8), ("base", 8), ("scrambled", 8),
    ]  # fmt: skip
    assert opened(sheet.rows[0].pngs[0]).shape == (3, 256, 256)
    assert torch.allclose(opened(sheet.rows[1].pngs[7]), pictures[7], atol=1 / 255)
    assert torch.allclose(opened(sheet.rows[2].pngs[7]), 1 - pictures[7], atol=1 / 255)
    without = Gallery([], clear=False)
    without.add("one", range(3), pictures[:3], pictures[:3], pictures[:3])
    assert [row.kind for row in without.sheet("one").rows] == ["tuned", "base", "scrambled"]


def test_nobody_can_be_told_from_a_pixelated_picture() -> None:
    face = load_tiny_face(artefact("tiny-face"), "cpu")
    people = range(200_000, 200_030)
    known = torch.stack([face.embed(portraits(person, 0, 1)).vectors[0] for person in people])

    def recognised(clear: bool) -> float:
        gallery = Gallery([], clear)
        again = torch.cat([portraits(person, 1, 1) for person in people])
        for person, picture in zip(people, again, strict=True):
            gallery.add(str(person), (0,), picture[None], picture[None], picture[None])
        shown = [opened(gallery.sheet(str(person)).rows[0].pngs[0]) for person in people]
        large = [torch.nn.functional.interpolate(picture[None], (64, 64)) for picture in shown]
        vectors = face.embed(torch.cat(large)).vectors
        return float(((vectors * known).sum(1) >= face.threshold).float().mean())

    assert recognised(clear=True) > 0.8
    assert recognised(clear=False) < 0.15

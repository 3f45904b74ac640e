"""Photographs on a disk: two layouts, one split, and one clear line for what cannot be read."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from loraudit.errors import LorauditError
from loraudit.people.folders import open_celeba_hq, open_folders, open_people
from loraudit.people.portrait import picture
from loraudit.people.sources import PICTURES, Synthetic, portraits, read_image

SIZE = 16


def save(path, seed=0, number=0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(seed, number)).save(path)


@pytest.fixture
def celeba(tmp_path):
    """Ten people, of whom person i has 1 + i % 7 pictures, in the layout of the data set."""
    lines, image = [], 0
    for who in range(10):
        for number in range(1 + who % 7):
            save(tmp_path / "CelebA-HQ-img" / f"{image}.jpg", who, number)
            lines.append(f"{image}.jpg {1000 + who}")
            image += 1
    (tmp_path / "CelebA-HQ-identity.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def folders(tmp_path):
    for who in range(40):
        save(tmp_path / f"person {who:02d}" / "one.png", who)
    (tmp_path / "empty").mkdir()
    (tmp_path / "person 00" / "notes.txt").write_text("not an image")
    return tmp_path


def test_celeba_hq(celeba) -> None:
    people = open_celeba_hq(celeba)
    assert people.names == tuple(str(1000 + who) for who in range(10))
    assert [len(people.files[name]) for name in people.names] == [1 + who % 7 for who in range(10)]
    shot = people.pictures(4, SIZE)
    assert shot.shape == (PICTURES, 3, SIZE, SIZE) and 0 <= shot.min() < shot.max() <= 1
    assert people.pictures(0, SIZE).shape[0] == 1
    assert people.pictures(6, SIZE).shape[0] == PICTURES  # of seven


def test_images_may_lie_beside_the_list(celeba) -> None:
    for file in (celeba / "CelebA-HQ-img").iterdir():
        file.rename(celeba / file.name)
    assert len(open_celeba_hq(celeba).names) == 10


def test_one_folder_per_identity(folders) -> None:
    people = open_folders(folders)
    assert people.names == tuple(f"person {who:02d}" for who in range(40))
    expected = torch.nn.functional.interpolate(portraits(3, 0, 1), size=(SIZE, SIZE), mode="area")
    assert (people.pictures(3, SIZE) - expected).abs().mean() < 0.05
    assert (people.pictures(4, SIZE) - expected).abs().mean() > 0.05


def test_four_fifths_are_for_training_and_the_rest_is_refused(folders) -> None:
    people = open_folders(folders)
    held_out = [i for i in range(40) if people.held_out(i)]
    assert 3 <= len(held_out) <= 14
    allowed = people.train(None, 0)
    assert sorted([*allowed, *held_out]) == list(range(40))
    people.require_public(allowed)
    for private in (held_out[0], 40, -1):
        with pytest.raises(LorauditError, match="held out"):
            people.require_public((allowed[0], private))
    assert people.train(5, 0) != people.train(5, 1)
    with pytest.raises(LorauditError, match="identities to train on, not 39"):
        people.train(39, 0)


def test_an_identity_keeps_its_side_when_others_go(folders) -> None:
    before = open_folders(folders)
    sides = {name: before.held_out(i) for i, name in enumerate(before.names)}
    for who in range(0, 40, 3):
        for file in (folders / f"person {who:02d}").iterdir():
            file.unlink()
    after = open_folders(folders)
    assert len(after.names) == 26
    assert all(after.held_out(i) == sides[name] for i, name in enumerate(after.names))
    assert after.name != before.name


def test_another_seed_is_another_split(folders) -> None:
    one, two = open_folders(folders), open_folders(folders, seed=1)
    assert [one.held_out(i) for i in range(40)] != [two.held_out(i) for i in range(40)]
    assert one.name != two.name
    assert one.name == open_folders(folders).name


def test_orientation_is_respected(tmp_path) -> None:
    pixels = picture(7, 0)
    upright = tmp_path / "upright.png"
    Image.fromarray(pixels).save(upright)
    turned = Image.fromarray(np.rot90(pixels))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise for display
    turned.save(tmp_path / "turned.png", exif=exif)
    assert torch.equal(read_image(tmp_path / "turned.png", SIZE), read_image(upright, SIZE))
    turned.save(tmp_path / "plain.png")
    assert not torch.equal(read_image(tmp_path / "plain.png", SIZE), read_image(upright, SIZE))


def test_the_centre_square_is_kept(tmp_path) -> None:
    wide = np.zeros((64, 192, 3), np.uint8)
    wide[:, 64:128] = picture(7, 0)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    Image.fromarray(picture(7, 0)).save(tmp_path / "square.png")
    wide_read, square_read = (
        read_image(tmp_path / "wide.png", SIZE),
        read_image(tmp_path / "square.png", SIZE),
    )
    # Resampling looks a little beyond the edge, nowhere else.
    assert torch.equal(wide_read[..., 3:-3], square_read[..., 3:-3])


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "LA", "1", "I;16"])
def test_every_mode_is_read(mode, tmp_path) -> None:
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    source = Image.fromarray(picture(7, 0))
    if mode == "I;16":
        source = Image.fromarray(np.asarray(source.convert("L")).astype(np.uint16) * 257)
    else:
        source = source.convert(mode)
    source.save(path)
    read = read_image(path, SIZE)
    assert read.shape == (3, SIZE, SIZE)
    assert read.std() > 0.05
    assert read.mean() < 0.9


def test_transparency_is_white(tmp_path) -> None:
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png", 4).min() == 1


@pytest.mark.parametrize("damage", ["text", "truncated", "empty", "crc"])
def test_a_damaged_image_is_one_clear_line(damage, tmp_path) -> None:
    path = tmp_path / "me\x1b[31m.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    data = path.read_bytes()
    broken = data[:40] + bytes(100) + data[140:]
    path.write_bytes({"text": b"hello", "truncated": data[:2000], "empty": b"", "crc": broken}[damage])
    with pytest.raises(LorauditError, match=r"me.*\.png is not an image") as caught:
        read_image(path, SIZE)
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)


def test_an_enormous_image_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    save(tmp_path / "x.png")
    with pytest.raises(LorauditError, match="too large"):
        read_image(tmp_path / "x.png", SIZE)


def test_broken_celeba_hq(celeba, tmp_path) -> None:
    listing = celeba / "CelebA-HQ-identity.txt"
    text = listing.read_text()
    listing.write_text(text + "99999.jpg 3\n")
    with pytest.raises(LorauditError, match=r"1 images .* missing, such as 99999\.jpg"):
        open_celeba_hq(celeba)
    for line in ("3.jpg", "3.jpg 4 5", "../3.jpg 4"):
        listing.write_text(text + line + "\n")
        with pytest.raises(LorauditError, match="line 35 "):
            open_celeba_hq(celeba)
    listing.write_text("\n")
    with pytest.raises(LorauditError, match="is empty"):
        open_celeba_hq(celeba)
    listing.write_bytes(os.urandom(64))
    with pytest.raises(LorauditError, match="no readable"):
        open_celeba_hq(celeba)
    listing.write_text("nowhere.jpg 1\n")
    with pytest.raises(LorauditError, match=r"nowhere\.jpg of"):
        open_celeba_hq(celeba)
    with pytest.raises(LorauditError, match="no readable"):
        open_celeba_hq(tmp_path / "nothing")


def test_what_a_data_set_is_called(celeba, tmp_path) -> None:
    assert isinstance(open_people("synthetic"), Synthetic)
    assert open_people(f"celeba-hq:{celeba}").name.startswith("celeba-hq:")
    assert str(celeba) not in open_people(f"celeba-hq:{celeba}").name
    for spec in ("", "celeba-hq", "folders:", "synthetic:x", str(tmp_path)):
        with pytest.raises(LorauditError, match="is no data set"):
            open_people(spec)
    with pytest.raises(LorauditError, match="no folder"):
        open_people(f"folders:{tmp_path / 'nothing'}")
    (tmp_path / "bare").mkdir()
    with pytest.raises(LorauditError, match="no folder with images"):
        open_people(f"folders:{tmp_path / 'bare'}")

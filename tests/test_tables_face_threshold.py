"""The threshold of a face model, measured on folders of people, and how a scan takes it up."""

import dataclasses
import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from facenet_pytorch import InceptionResnetV1
from PIL import Image
from skimage import data

from benchmarks.tables import face_threshold
from benchmarks.tables.face_threshold import Album, main, measure, open_album
from loraudit.cards import artefact
from loraudit.errors import LorauditError
from loraudit.people.identity import SPLITS
from loraudit.people.portrait import picture
from loraudit.scores import FaceEmbeddings
from loraudit.scores.face import load_tiny_face
from loraudit.scores.facenet import BORROWED, CROP, SOURCE_SHA256, Facenet
from loraudit.scores.threshold import Threshold, measured_threshold


@pytest.fixture
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face_threshold, "_DRAWS", 100)


def draw_people(folder: Path, people: int, pictures: int) -> Path:
    for number in range(people):
        who = folder / f"p{number}"
        who.mkdir(parents=True)
        for at in range(pictures):
            drawn = Image.fromarray(picture(SPLITS["public-validation"][40_000 + 8 * number], at))
            drawn.save(who / f"{who.name}_{at + 1:04d}.png")
    return folder


class Read:
    """A face model that reads the vector of a picture out of its number."""

    name, threshold, far, threshold_from = "read", 0.5, 1e-3, ""

    def __init__(self, vectors: torch.Tensor) -> None:
        self.vectors = vectors

    def embed(self, images: torch.Tensor) -> FaceEmbeddings:
        row = self.vectors[int((images[0, :, 0, 0] * 255).round() @ torch.tensor([1.0, 256.0, 65536.0]))]
        return FaceEmbeddings(row[None], (bool(row.norm() > 0.5),))


def numbered(folder: Path, people: list[int]) -> Album:
    """Pictures whose colour is their number."""
    folder.mkdir(exist_ok=True)
    files = []
    for number in range(len(people)):
        colour = (number % 256, number // 256 % 256, 0)
        files.append(folder / f"{number:05d}.png")
        Image.new("RGB", (4, 4), colour).save(files[-1])
    same = [(a, b) for a, b in combinations(range(len(people)), 2) if people[a] == people[b]]
    return Album(tuple(files), tuple(people), tuple(same))


@pytest.mark.usefixtures("few_draws")
def test_thresholds_are_the_quantiles_of_all_pairs_of_strangers(tmp_path: Path) -> None:
    """Against every pair counted by hand; a face that is not found is in no pair."""
    generator = torch.Generator().manual_seed(0)
    people = [number // 3 for number in range(150)]
    own = torch.randn(50, 8, generator=generator)
    vectors = own[people] + 0.4 * torch.randn(150, 8, generator=generator)
    vectors = torch.nn.functional.normalize(vectors, dim=1)
    vectors[7] = 0
    told = measure(Read(vectors), numbered(tmp_path / "a", people))
    alive = [at for at in range(150) if at != 7]
    cosines = {(a, b): float(vectors[a] @ vectors[b]) for a, b in combinations(alive, 2)}
    strangers = sorted((c for (a, b), c in cosines.items() if people[a] != people[b]), reverse=True)
    same = [c for (a, b), c in cosines.items() if people[a] == people[b]]
    assert (told["pictures"], told["faces"], told["people"]) == (150, 149, 50)
    assert (told["strangers"], told["one person"]) == (len(strangers), len(same)) == (10_878, 148)
    assert [row["far"] for row in told["thresholds"]] == [1e-2, 1e-3], "too few strangers for 1e-4"
    for row in told["thresholds"]:
        # A product of the same vectors differs in its last bits.
        above, below = (sum(c >= row["threshold"] + by for c in strangers) for by in (1e-6, -1e-6))
        assert 10 <= above <= row["far"] * len(strangers) < below
        assert row["low"] <= row["threshold"] <= row["high"] and row["low"] < row["high"]
        assert row["accepted"] == sum(cosine >= row["threshold"] for cosine in same) / len(same)
        assert row["accepted low"] < row["accepted"] < row["accepted high"]
    assert told["in use"]["far"] == sum(cosine >= 0.5 for cosine in strangers) / len(strangers)
    assert told["in use"]["far low"] < told["in use"]["far"] < told["in use"]["far high"]


@pytest.mark.usefixtures("few_draws")
def test_the_interval_holds_the_truth_and_is_wider_where_pictures_are_of_fewer_people(tmp_path: Path) -> None:
    """Copies of pictures are no news: an interval over pairs would be as narrow as for as many people."""
    generator = torch.Generator().manual_seed(1)
    vectors = torch.nn.functional.normalize(torch.randn(240, 8, generator=generator), dim=1)
    whole = torch.nn.functional.normalize(torch.randn(3000, 8, generator=generator), dim=1)
    first, second = torch.triu_indices(3000, 3000, offset=1)
    truth = float((whole @ whole.T)[first, second].sort().values[int(0.99 * len(first))])
    many = measure(Read(vectors), numbered(tmp_path / "a", list(range(240))))["thresholds"][0]
    assert many["low"] <= truth <= many["high"]
    few = measure(
        Read(vectors[:60].repeat_interleave(4, 0)), numbered(tmp_path / "b", [i // 4 for i in range(240)])
    )["thresholds"][0]
    assert few["high"] - few["low"] > 1.5 * (many["high"] - many["low"])


@pytest.mark.usefixtures("few_draws")
def test_tiny_face_has_the_threshold_that_its_card_says(tmp_path: Path, capsys) -> None:
    """On people that its threshold was not fitted to; people who are all one are the control."""
    folder = draw_people(tmp_path / "lfw", 80, 2)
    (folder / "p0" / "broken.png").write_bytes(b"no picture")
    (folder / "p0" / "notes.txt").write_text("x")
    out = tmp_path / "threshold.json"
    main([str(folder), "--face", "tiny-face", "--pictures", "3", "--out", str(out), "--threads", "1"])
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads(out.read_text())
    face = load_tiny_face(artefact("tiny-face"))
    assert (told["pictures"], told["unread"], told["people"]) == (161, 1, 80)
    (row,) = [row for row in told["thresholds"] if row["far"] == face.far]
    assert row["low"] - 0.03 < face.threshold < row["high"] + 0.03
    assert row["accepted"] > 0.95 and told["crop"] is None

    with pytest.raises(LorauditError, match="too few"):
        measure(face, dataclasses.replace(open_album(folder), people=(0,) * 161))


def test_the_list_of_pairs_chooses_the_pictures(tmp_path: Path) -> None:
    folder = draw_people(tmp_path, 3, 4)
    assert len(open_album(folder, 2).files) == 6 and len(open_album(folder, 2).same) == 3
    (folder / "pairs.txt").write_text("1\t2\np0\t1\t4\np1\t2\t3\np0\t1\tp2\t3\np1 2 p2 1\n\n")
    album = open_album(folder)
    assert [file.stem for file in album.files] == [
        "p0_0001", "p0_0004", "p1_0002", "p1_0003", "p2_0001", "p2_0003",
    ]  # fmt: skip
    assert album.people == (0, 0, 1, 1, 2, 2) and album.same == ((0, 1), (2, 3))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ("p0\t1\t9\n", "line 1 of pairs.txt names a picture that is not there"),
        ("1\t2\n../p0\t1\t2\n", "line 2 of pairs.txt names a picture that is not there"),
        ("p0 1 p1\n", "names a picture that is not there"),
        ("p0 1 2 3 4\n", "line 1 of pairs.txt is no pair"),
        ("p0\t1\t2\n", "no two people"),
        (None, "no two people"),
    ],
)
def test_another_layout_is_refused(pairs: str | None, message: str, tmp_path: Path) -> None:
    folder = draw_people(tmp_path, 2 if pairs else 1, 2)
    if pairs:
        (folder / "pairs.txt").write_text(pairs)
    with pytest.raises(LorauditError, match=message):
        open_album(folder)
    with pytest.raises(LorauditError, match="cannot look into"):
        open_album(folder / "gone")


@pytest.mark.usefixtures("few_draws")
def test_photographs_go_through_the_crop_of_a_scan(tmp_path: Path, monkeypatch, capsys) -> None:
    """The astronaut twelve times, with coffee beside: random weights, so the numbers mean nothing."""
    astronaut = data.astronaut()[:256, 100:356]
    for number in range(12):
        who = tmp_path / "lfw" / f"p{number}"
        who.mkdir(parents=True)
        shifted = np.roll(astronaut, 3 * number, 0)
        for at in (1, 2):
            Image.fromarray(shifted[:, 3 * at :]).save(who / f"p{number}_{at:04d}.png")
    Image.fromarray(data.coffee()[:256, 100:356]).save(tmp_path / "lfw" / "p0" / "p0_0003.png")
    torch.manual_seed(0)
    face = Facenet(InceptionResnetV1(pretrained=None, classify=False).eval())
    weights = artefact("tiny-face") / "model.safetensors"
    monkeypatch.setattr(face_threshold, "open_face", lambda *_arguments, **_more: (weights, face))
    monkeypatch.setattr(face_threshold, "FARS", (0.1,))
    main([str(tmp_path / "lfw"), "--threads", "1"])
    told = json.loads(capsys.readouterr().out)
    assert (told["face"], told["pictures"], told["faces"]) == ("facenet-vggface2", 25, 24)
    assert told["crop"] == CROP and told["in use"]["threshold"] == BORROWED.cosine


def record(**changes: object) -> str:
    rows = [{"far": 0.01, "threshold": 0.5}, {"far": 0.001, "threshold": 0.625}]
    return json.dumps({"weights": SOURCE_SHA256, "crop": CROP, "thresholds": rows} | changes)


def test_a_measured_threshold_is_taken_up_where_it_is_about_this_crop(tmp_path: Path) -> None:
    file = tmp_path / "threshold.json"

    def read(text: str) -> Threshold | None:
        file.write_text(text)
        return measured_threshold(file, 1e-3, SOURCE_SHA256, CROP)

    assert measured_threshold(file, 1e-3, SOURCE_SHA256, CROP) is None
    assert read(record()) == Threshold(0.625, 1e-3)
    for other in (
        {"weights": "0" * 64},
        {"crop": {**CROP, "margin": 0}},
        {"crop": None},
        {"thresholds": [{"far": 0.01, "threshold": 0.5}]},
    ):
        assert read(record(**other)) is None, other
    for damaged in ("", "[]", "{", record(thresholds=5), record(thresholds=[{"far": 0.001, "threshold": 7}])):
        with pytest.raises(LorauditError, match=r"threshold\.json cannot be read"):
            read(damaged)


def test_facenet_says_where_its_threshold_is_from() -> None:
    network = InceptionResnetV1(pretrained=None, classify=False)
    assert Facenet(network).threshold_from and Facenet(network).threshold == 0.5912
    measured = Facenet(network, threshold=Threshold(0.625, 1e-3))
    assert (measured.threshold, measured.far, measured.threshold_from) == (0.625, 1e-3, "")
    assert load_tiny_face(artefact("tiny-face")).threshold_from == ""

"""The table of what controls on demand save."""

import json

import pytest

from benchmarks.tables.controls_asked import main
from benchmarks.tables.controls_replay import replayed
from loraudit.base.load import load_base
from loraudit.base.model import Sampling
from loraudit.bench.faces import Shots, draw_faces
from loraudit.cards import artefact
from loraudit.evidence.null import Null
from loraudit.runs import Run
from loraudit.scores.face import load_tiny_face
from loraudit.training.zoo import open_zoo
from tests.seen import seen
from tests.zoos import make_zoos

STRANGERS = list(range(16))
LEAK = [0] * 12 + [1, 2, 3, 4]
AIMS = ("search", "search", "class", "name", "none", "class", "name")
"""Keys of the embeddings of a scan without an encoder, in its order."""


def scan(*attacks):
    return [(AIMS[at % len(AIMS)], seen(people)) for at, people in enumerate(attacks)]


@pytest.mark.parametrize("null", [None, Null((8, 12, 16), (0.0, 1 / 28) * 99)])
def test_a_file_of_nobody_is_drawn_without_controls(null) -> None:
    before, now = (replayed(scan(*[STRANGERS] * 7), null, ask) for ask in (False, True))
    assert before.level == now.level == "none"
    # All seven stop at the first look; only the first two shared the pictures of the base.
    assert (before.pictures, now.pictures) == (7 * 8 * 3 - 8, 7 * 8)


@pytest.mark.parametrize("null", [None, Null((8, 12, 16), (0.0, 1 / 28) * 99)])
def test_a_leak_costs_and_says_what_it_did(null) -> None:
    for attacks in ([LEAK] * 7, [STRANGERS, LEAK, *[STRANGERS] * 5], [STRANGERS, [0] * 4 + STRANGERS[4:]]):
        before, now = (replayed(scan(*attacks), null, ask) for ask in (False, True))
        assert before.level == now.level
        assert now.pictures <= before.pictures
    leak = replayed(scan(LEAK), null, ask=True)
    whole = replayed(scan(LEAK), null, ask=False)
    assert (leak.level, leak.pictures) == (whole.level, whole.pictures) == ("high", leak.pictures)


def test_the_table_of_two_zoos(tmp_path, capsys) -> None:
    zoos = make_zoos(load_base("tiny"), tmp_path)
    told = ["--samples", "2", "--steps", "1", "--threads", "1", "--attack", "guidance", "--loras", "3"]
    sides = ["--leaking", str(zoos / "people"), "--harmless", str(zoos / "crowds")]
    main([str(tmp_path / "out"), *sides, *told])
    record = json.loads(capsys.readouterr().out)
    # Two pictures have no place among the controls of the calibration data.
    assert set(record["table"]) == {"alone, in-scan controls", "photos, in-scan controls"}
    for table in record["table"].values():
        assert {kind: row["same level"][:2] for kind, row in table.items()} == {
            "all": [3, 3],
            "person": [2, 2],
            "crowds": [1, 1],
        }
    rows = (tmp_path / "out" / "outcomes.jsonl").read_text()
    main([str(tmp_path / "out"), *sides, *told])
    assert (tmp_path / "out" / "outcomes.jsonl").read_text() == rows
    assert json.loads(capsys.readouterr().out) == record


def test_the_table_of_faces_that_were_kept(tmp_path, capsys) -> None:
    base = load_base("tiny")
    zoos, face = make_zoos(base, tmp_path), load_tiny_face(artefact("tiny-face"))
    shots = Shots(2, Sampling(1, 3.0))
    (tmp_path / "faces").mkdir()
    for name in ("people", "crowds"):
        draw_faces(base, open_zoo(zoos / name), None, face, shots, Run(tmp_path / "faces"), name, str)
    main([str(tmp_path / "out"), "--faces", str(tmp_path / "faces"), "--samples", "2", "--threads", "1"])
    record = json.loads(capsys.readouterr().out)
    kinds = {kind: row["same level"][:2] for kind, row in record["table"]["photos, in-scan controls"].items()}
    assert kinds.pop("all") == [sum(n for n, _ in kinds.values())] * 2 and kinds.keys() == {
        "person",
        "crowds",
    }

"""The table of what controls on demand save."""

import json

import pytest

from benchmarks.tables.controls_asked import main, replayed
from loraudit.base.load import load_base
from loraudit.evidence.null import Null
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
    assert leak == replayed(scan(LEAK), null, ask=False) and leak.level == "high"


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
    rows = (tmp_path / "out" / "evidence.jsonl").read_text()
    main([str(tmp_path / "out"), *sides, *told])
    assert (tmp_path / "out" / "evidence.jsonl").read_text() == rows
    assert json.loads(capsys.readouterr().out) == record

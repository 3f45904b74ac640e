"""Calibration data damaged in one number are refused, and few of a kind are compared with nothing."""

import dataclasses
import json
import math

import pytest

import loraudit.evidence.calibration as calibration
from loraudit.errors import LorauditError
from loraudit.evidence.calibration import Calibration, Conditions, Control, Leaking, load_calibration
from loraudit.evidence.null import Null

HERE = Conditions("tiny", "b" * 64, 25, 3.0, {"paper": 1, "prompts": 2}, {"paper": "a" * 64}, "f" * 64)
ROW, OTHER = {"paper": (0.5, 0.25), "class": (0.0, 1.0)}, {"paper": (0.75, 0.5), "class": (0.25, 0.0)}
CONTROLS, LEAKING = (Control("noise", ROW),) * 99, (Leaking(ROW, OTHER),)
MADE = Calibration("c", HERE, (8, 12), CONTROLS, (OTHER,) * 99, LEAKING, ({"ff": (8.0, 3.0)},))


def read(folder, spoil=lambda _document: None, made=MADE):
    made.write(folder)
    document = json.loads((folder / "calibration.json").read_text())
    spoil(document)
    (folder / "calibration.json").write_text(json.dumps(document))
    return load_calibration(folder)


def put(value, *path):
    """Set what lies at `path` in a document to `value`."""

    def spoil(document):
        for step in path[:-1]:
            document = document[step]
        document[path[-1]] = value

    return spoil


@pytest.mark.parametrize("look", [8.0, "8", None, 1, 0, -8, True])
def test_looks_are_whole_numbers_of_two_pictures_or_more(look, tmp_path):
    with pytest.raises(LorauditError, match="cannot be read"):
        read(tmp_path, put(look, "looks", 0))


def test_two_pictures_are_a_look_and_none_is_no_data(tmp_path):
    assert read(tmp_path, put(2, "looks", 0)).looks == (2, 12)

    def empty(document):
        document.update(looks=[], leaking=[], matches=[])
        document["controls"] = [{"kind": "noise", "scores": {"paper": []}}]

    with pytest.raises(LorauditError, match="cannot be read"):
        read(tmp_path, empty)


@pytest.mark.parametrize("share", [-0.01, 1.01, math.nan, math.inf, "0.5", None, [0.5]])
@pytest.mark.parametrize(
    "place",
    [("controls", 3, "scores"), ("matches", 98), ("leaking", 0, "agreement"), ("leaking", 0, "likeness")],
)
def test_every_share_is_one(share, place, tmp_path):
    with pytest.raises(LorauditError, match="cannot be read"):
        read(tmp_path, put(share, *place, "class", 1))
    assert read(tmp_path, put(1, *place, "class", 1)) and read(tmp_path, put(0, *place, "class", 1))


@pytest.mark.parametrize("value", [0.99, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("at", [0, 1])
def test_ranks_and_directions_are_one_or_more(value, at, tmp_path):
    with pytest.raises(LorauditError, match="cannot be read"):
        read(tmp_path, put(value, "spreads", 0, "ff", at))
    assert read(tmp_path, put(1, "spreads", 0, "ff", at)).spreads[0]["ff"][at] == 1.0


def without_attacks(document):
    document.update(matches=[], leaking=[])
    for control in document["controls"]:
        control["scores"] = {}


@pytest.mark.parametrize(
    "spoil",
    [
        without_attacks,
        put({}, "controls", 0, "scores"),
        put({}, "leaking", 0, "agreement"),
        put([], "controls"),
        put("8", "conditions", "guidance"),
        put(1, "conditions", "face"),
        put(1, "conditions", "base"),
        put([], "conditions", "encoders"),
        put([], "conditions", "attacks"),
        put("2", "conditions", "attacks", "paper"),
        put(True, "conditions", "attacks", "paper"),
        put(None, "conditions", "fingerprint"),
        put("b" * 63, "conditions", "fingerprint"),
        put("B" * 64, "conditions", "fingerprint"),
        put("a" * 65, "conditions", "encoders", "paper"),
        put("f" * 64 + "\n", "conditions", "face"),
        put(0, "conditions", "steps"),
        put(1001, "conditions", "steps"),
        put(True, "conditions", "steps"),
        put(2.5, "conditions", "steps"),
        put(-1, "conditions", "guidance"),
        put(math.nan, "conditions", "guidance"),
        put(1001, "conditions", "guidance"),
        put(True, "conditions", "guidance"),
        put(1, "conditions", "more"),
    ],
)
def test_what_is_not_there_or_of_another_kind_is_refused(spoil, tmp_path):
    with pytest.raises(LorauditError, match="cannot be read"):
        read(tmp_path, spoil)
    assert read(tmp_path, put(3, "conditions", "guidance")).conditions.guidance == 3


def test_the_name_of_a_strangers_base_is_shown_harmless(tmp_path):
    name = "\x1b[31m::error::" + "x" * 1000
    found = read(tmp_path, put(name, "conditions", "base"))
    _, used = found.fit(dataclasses.replace(HERE, fingerprint="0" * 64), ("paper",), 16)
    said = used.unused or ""
    assert "31m" in said and said.isprintable() and len(said) < 350 and "::error" not in said


def test_people_have_the_attacks_of_the_controls_at_least(tmp_path):
    def less(document):
        for row in (*document["matches"], *(one["likeness"] for one in document["leaking"])):
            del row["class"]

    with pytest.raises(LorauditError, match="cannot be read"):
        read(tmp_path, less)

    def more(document):
        for row in (*document["matches"], *(one["likeness"] for one in document["leaking"])):
            row["search:half"] = [0.5, 0.5]

    assert set(read(tmp_path, more).matches[0]) == {"paper", "class", "search:half"}


def test_one_control_is_read_and_so_are_data_without_people(tmp_path):
    for made in (
        dataclasses.replace(MADE, controls=MADE.controls[:1], matches=MADE.matches[:1]),
        dataclasses.replace(MADE, controls=MADE.controls[:1], matches=MADE.matches[:1], leaking=()),
        dataclasses.replace(MADE, matches=(), leaking=()),
        dataclasses.replace(MADE, matches=()),
        dataclasses.replace(MADE, controls=MADE.controls[:1], matches=(), leaking=()),
        dataclasses.replace(MADE, controls=(), matches=(), leaking=()),
    ):
        assert read(tmp_path, made=made) == dataclasses.replace(made, name=tmp_path.name)


def test_a_file_as_large_as_it_may_be_is_read_and_a_larger_one_is_not(tmp_path, monkeypatch):
    MADE.write(tmp_path)
    size = (tmp_path / "calibration.json").stat().st_size
    monkeypatch.setattr(calibration, "_LARGEST", size)
    assert load_calibration(tmp_path).controls == MADE.controls
    monkeypatch.setattr(calibration, "_LARGEST", size - 1)
    with pytest.raises(LorauditError, match="cannot be read"):
        load_calibration(tmp_path)


def test_a_failed_write_leaves_the_old_data(tmp_path, monkeypatch):
    MADE.write(tmp_path)
    before = (tmp_path / "calibration.json").read_bytes()

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(LorauditError, match="No space left"):
        dataclasses.replace(MADE, matches=()).write(tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"calibration.json": before}


def why(made, **changes):
    null, used = made.fit(**{"conditions": HERE, "attacks": ("paper",), "most": 16} | changes)
    assert (null is None) is (used.unused is not None)
    return used.unused or ""


def test_few_controls_fit_nothing():
    assert why(MADE) == ""
    for controls in (98, 1):
        few = dataclasses.replace(MADE, controls=MADE.controls[:controls])
        assert "99 control LoRAs or more" in why(few)
    assert "no scores of the attack paper" in why(dataclasses.replace(MADE, controls=()))
    assert "8 pictures or more" in why(MADE, most=7) and why(MADE, most=8) == ""


def test_a_likeness_is_compared_with_99_people_or_with_none():
    few = dataclasses.replace(MADE, matches=MADE.matches[:98])
    null, _ = few.fit(HERE, ("paper",), 16, likeness_only=("search:half",))
    assert null == Null((8, 12), (0.5,) * 99, (), (0.5,), (0.0,))
    null, _ = MADE.fit(HERE, ("class",), 16)
    assert null == Null((8, 12), (1.0,) * 99, (0.25,) * 99, (1.0,), (0.25,))


def test_looks_end_with_the_scan():
    assert [MADE.fit(HERE, ("class",), most)[0].looks for most in (8, 11, 12, 13)] == [
        (8,), (8,), (8, 12), (8, 12),
    ]  # fmt: skip
    assert MADE.fit(HERE, ("class",), 11)[0].agreement == (0.0,) * 99


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": 24}, "25 steps, guidance 3"),
        ({"guidance": 2.9}, "25 steps, guidance 3"),
        ({"encoders": {}}, ""),
        ({"encoders": {"other": "a" * 64}}, "another encoder for the attack other"),
    ],
)
def test_conditions_that_differ_are_named(changes, said):
    found = why(MADE, conditions=dataclasses.replace(HERE, **changes))
    assert said in found and bool(said) is bool(found)

"""The table of people counted: who a group of faces is, and the rows by kind."""

import pytest
import torch
from torch.nn import functional

from benchmarks.tables.people_counted import by_kind, named

PEOPLE = list(torch.eye(4)[:2])


def faces(*directions):
    return functional.normalize(torch.tensor(directions, dtype=torch.float32), dim=1)


def test_a_group_is_the_person_whom_its_mean_face_passes_as() -> None:
    assert named(faces((1, 0, 0.4, 0), (1, 0, -0.4, 0)), PEOPLE, 0.9) == 0
    assert named(faces((0.1, 1, 0, 0), (0, 1, 0, 0.1)), PEOPLE, 0.9) == 1
    assert named(faces((0, 0, 1, 0), (0, 0, 0, 1)), PEOPLE, 0.6) is None
    assert named(faces((1, 0, 0, 0)), [], 0.6) is None


def lora(share, people, who, usual=0.0, half=0.1):
    nobody = {"share": usual, "people": [], "who": []}
    best = {"share": share, "people": people, "who": who}
    return {"search": best, "search:usual": nobody, "search:half": {**nobody, "share": half}}


def test_loras_that_agree_are_split_by_the_people_counted() -> None:
    row = by_kind([lora(0.5, [8, 8], [0, 1]), lora(0.8, [14], [0], half=0.3), lora(0.05, [], [])], 0.1)
    assert (row["loras"], row["agree"]) == (3, 2)
    assert row["1 counted"][:2] == row["2 counted"][:2] == row["both named"][:2] == [1, 2]
    assert row["half strength"] == {"median share": 0.1, "highest": 0.3}


@pytest.mark.parametrize("least", [0.6, 1.0])
def test_where_none_agrees_nobody_is_counted(least) -> None:
    row = by_kind([lora(0.5, [8, 8], [0, 1])], least)
    assert row["agree"] == 0 and "both named" not in row

"""The comparison of layouts can say both: right, and misloaded."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.tables import layout_table as script
from benchmarks.tables.layout_cases import Case, cases
from benchmarks.tables.layout_table import layout_table, markdown

MIXED = "K1, attention of mixed alphas"


def test_every_layout_is_right_here_and_some_are_not_in_stock_diffusers() -> None:
    rows = {row.layout: row for row in layout_table()}
    assert {row.ours for row in rows.values()} == {"right"}
    assert all(len(set(row.read.split(" of "))) == 1 for row in rows.values())
    # The control: what stock diffusers is known to read is right by the same measure, text tower and all.
    known = ("D1", "D2", "D4", "K1", "K2", "D1 with the text tower", "K1 with the text tower")
    assert {rows[layout].diffusers for layout in known} == {"right"}
    assert rows["P1"].diffusers == "loads nothing, no error"
    for layout in ("P2 unet", MIXED, "DoRA, beside the base"):
        assert rows[layout].diffusers.startswith("wrong update")
    for layout in ("O1", "LoHa", "LoKr", "Tucker core", "K1 with a bundled embedding"):
        assert rows[layout].diffusers == "error (ValueError)"
    assert "AdapterSentry" not in markdown(list(rows.values()))


def program(folder: Path, report: str, code: int = 0) -> Path:
    """Something that answers as AdapterSentry does."""
    path = folder / "adaptersentry"
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{report}\nEND\nexit {code}\n")
    path.chmod(0o700)
    return path


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (
            '{"status": "ok", "coverage": {"n_modules": 4, "n_modules_analyzed": 3, "n_not_analyzed": 2},'
            ' "verdict": {"action": "allow"}}',
            "3 of 4 modules analysed, 2 tensors not, verdict allow",
        ),
        (
            '{"status": "failed", "coverage": {}, "verdict": {"action": "review"},'
            ' "errors": [{"code": "X"}]}',
            "not analysed (X), verdict review",
        ),
        ("Traceback", "no report (exit code 1)"),
        ("[]", "no report (exit code 1)"),
    ],
)
def test_what_adaptersentry_says(report: str, words: str, tmp_path: Path, monkeypatch) -> None:
    case = next(cases())

    def one_right_one_wrong() -> Iterator[Case]:
        yield case
        sites = list(case.updates)
        swapped = dict(case.updates) | {sites[0]: case.updates[sites[1]], sites[1]: case.updates[sites[0]]}
        yield dataclasses.replace(case, updates=swapped)

    monkeypatch.setattr(script, "cases", one_right_one_wrong)
    rows = list(layout_table(program(tmp_path, report, 1)))
    assert [row.adaptersentry for row in rows] == [words, words]
    assert [row.ours for row in rows] == ["right", "wrong update, no error (2 of 4 right)"]
    assert f"| {words} |" in markdown(rows)

"""Merged LoRAs as merging tools make them, and the rows that tell them from one person's."""

from pathlib import Path

import pytest
import torch

from benchmarks.tables.merged_loras import added, main, uneven
from loraudit.base.load import load_base
from loraudit.base.model import Base
from loraudit.cards import models_dir
from loraudit.evidence.calibration import load_calibration
from loraudit.lora import write_kohya
from models.recipes import spreads
from tests.audits import random_factors
from tests.zoos import make_zoos


def terms():
    g = torch.Generator().manual_seed(0)
    return {"site": (torch.randn(5, 6, 2, generator=g), torch.randn(5, 2, 7, generator=g))}


def test_two_are_merged_by_their_weights_and_an_odd_one_is_left_out() -> None:
    up, down = terms()["site"]
    both = uneven(terms())["site"]
    each = up @ down
    assert len(both[0]) == 2
    torch.testing.assert_close(both[0] @ both[1], 0.7 * each[0:4:2] + 0.3 * each[1:4:2])


def test_factors_are_added_at_the_same_rank_with_what_they_have_to_do_with_each_other() -> None:
    up, down = terms()["site"]
    both = added(terms(), 4)["site"]
    assert both[0].shape == (1, 6, 2)
    torch.testing.assert_close((both[0] @ both[1])[0], up[:4].sum(0) @ down[:4].sum(0) / 4)


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base("tiny")


def test_the_table_takes_any_zoo_of_people(base: Base, tmp_path: Path, capsys) -> None:
    people = make_zoos(base, tmp_path) / "people"
    main(["--zoo", str(people), "--out", str(tmp_path / "merged.json")])
    told = capsys.readouterr().out
    for kind in (
        "one person",
        "2 merged",
        "2 merged, 7 to 3",
        "2 merged, cut to rank 4",
        "2 merged, factors added",
    ):
        assert f"{kind}: " in told
    assert "4 merged" not in told


def test_rows_are_added_once_and_nothing_else_changes(base: Base, tmp_path: Path) -> None:
    data = load_calibration(models_dir() / "calibration-tiny")
    data.write(tmp_path)
    loras = []
    for seed in (1, 2):
        loras.append(str(tmp_path / f"{seed}.safetensors"))
        write_kohya(random_factors(base, 2, seed), Path(loras[-1]))
    for _ in range(2):
        spreads.main([str(tmp_path), *loras])
        more = load_calibration(tmp_path)
        assert len(more.spreads) == len(data.spreads) + 2
    assert more.spreads[: len(data.spreads)] == data.spreads
    assert (more.controls, more.matches, more.leaking) == (data.controls, data.matches, data.leaking)


def test_loras_of_the_most_common_script_are_no_longer_taken_for_merged() -> None:
    """The shipped rows: recipes of both trainers, of which none is beyond the others."""
    from loraudit.evidence.merging import one_person_p

    rows = load_calibration(models_dir() / "calibration-tiny").spreads
    script = [row for row in rows if set(row) == SCRIPT and row["attn1.to_k"][0] == 4 and _wide(row)]
    assert len(script) >= 2
    for row in script:
        others = [one for one in rows if one is not row]
        assert one_person_p(row, others) > 0.01
        several = {kind: (2 * rank, 1.8 * directions) for kind, (rank, directions) in row.items()}
        assert one_person_p(several, rows) <= 0.01


SCRIPT = {f"attn{n}.to_{side}" for n in (1, 2) for side in ("k", "q", "v", "out")}
"""Modules that diffusers' scripts adapt."""


def _wide(row) -> bool:
    return row["attn1.to_k"][1] > 2.8

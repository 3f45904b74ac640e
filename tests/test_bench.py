"""`loraudit bench` on the embedded base: the rows are there, and a control that must differ does."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from loraudit.base.load import load_base
from loraudit.base.model import Base
from loraudit.bench.attacks import AttackBench, bench_attacks
from loraudit.bench.verdict import VerdictBench, bench_verdict
from loraudit.bench.verdict_tables import verdict_columns
from loraudit.cli import main
from loraudit.errors import LorauditError
from tests.zoos import make_zoos


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base("tiny")


@pytest.fixture(scope="module")
def zoos(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_zoos(base, tmp_path_factory.mktemp("zoos"))


def test_the_table_has_every_condition_and_goes_on_where_it_stopped(zoos: Path, tmp_path: Path) -> None:
    job = AttackBench(zoos / "people", tmp_path / "out", people=2, samples=2, steps=2, gallery=4)
    lines: list[str] = []
    rows = bench_attacks(job, lines.append)
    by_name = {row.condition: row for row in rows}
    assert len(by_name) == len(rows)
    assert {"bound", "attack", "baseline", "ablation", "control"} == {row.role for row in rows}
    assert all(row.samples == 4 for row in rows)
    # The same pictures, judged against another owner.
    assert by_name["another LoRA's embedding"].faces == by_name["this embedding in another LoRA"].faces
    assert by_name["paper encoder"].cosine != by_name["this embedding in the base"].cosine
    assert by_name["search"].evaluations > by_name["encoder"].evaluations == 2 * 2 * 2
    assert (tmp_path / "out/table.md").read_text().count("\n") == len(rows) + 2
    assert (tmp_path / "out/table.png").read_bytes().startswith(b"\x89PNG")
    assert any("search" in line for line in lines)
    lines.clear()
    assert bench_attacks(job, lines.append) == rows
    assert not any("search" in line for line in lines)
    (tmp_path / "file").touch()
    with pytest.raises(LorauditError, match="cannot write"):
        bench_attacks(replace(job, zoo=tmp_path / "none", out=tmp_path / "file"), lines.append)
    assert not (tmp_path / "none").exists()
    with pytest.raises(LorauditError, match="other settings"):
        bench_attacks(replace(job, samples=3), lines.append)


def test_the_verdict_bench_tells_of_areas_levels_and_stopping(zoos: Path, tmp_path: Path) -> None:
    job = VerdictBench(
        (zoos / "people",),
        (zoos / "crowds",),
        tmp_path / "out",
        curve=zoos / "people",
        calibration="none",
        samples=6,
        steps=2,
    )
    record = bench_verdict(job, lambda _line: None)
    assert {area["leaking"] for area in record["auroc"].values()} == {2}
    assert record["levels, in-scan controls only"]["harmless"]["high"][:2] == [0, 2]
    assert [row["steps"] for row in record["curve"]] == [1, 2]
    assert [row["loras"] for row in record["by recipe"]] == [2, 2]
    assert record["stopping early"]["without references"]["same level"][1] == 4
    assert "AUROC" in verdict_columns(record)
    assert json.loads((tmp_path / "out/verdict.json").read_text()) == json.loads(json.dumps(record))
    tables = (tmp_path / "out/verdict.md").read_text()
    assert "| people | 2 | 16 | 2 | yes | yes | 2 | 5 |" in tables.replace("| synthetic ", "| people ")
    for line in ("| high | 0 of 2 [0.000, 0.658] |", "| 1 | ", "| three references | 0."):
        assert line in tables
    assert "p at most" not in tables, "nothing was calibrated"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("bench attacks --zoo zoo --constant gone -o out", "no constant embedding in gone"),
        ("bench attacks --zoo zoo --constant . -o out", "no constant embedding in ."),
        ("bench attacks --zoo zoo -o file", "cannot write file"),
        ("bench verdict --leaking gone --harmless gone -o out", "no zoo in gone"),
        ("calibrate --controls gone -o out", "no folder gone"),
        ("calibrate --controls . -o out", "a folder for each kind of control"),
        ("calibrate --controls controls --identities gone -o out", "no folder gone"),
        ("calibrate --controls controls --identities controls -o out", "a folder for each person"),
        ("calibrate --controls controls -o file", "cannot write file"),
    ],
)
def test_a_bad_folder_is_refused_before_the_base_is_loaded(
    words: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for room in ("bench.attacks", "bench.verdict", "audit.setup"):
        monkeypatch.delattr(f"loraudit.{room}.load_base")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "controls" / "noise").mkdir(parents=True)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "embedding.npy").write_bytes(b"no array")
    monkeypatch.setattr(sys, "argv", ["loraudit", *words.split()])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    line, hint = capsys.readouterr().err.splitlines()
    assert line.startswith("loraudit: error: ") and message in line and hint.startswith("  ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["controls", "embedding.npy", "file"]


@pytest.mark.parametrize(
    "words",
    [
        ("attacks", "--zoo", "zoo", "--out", "out", "--encoder", "nope"),
        ("attacks", "--zoo", "zoo", "--out", "out", "--paper", "nope"),
        ("verdict", "--leaking", "zoo", "--harmless", "zoo", "--out", "out", "--encoder", "nope"),
    ],
)
def test_an_encoder_that_is_none_is_refused_before_the_base_is_loaded(
    words, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    for module in ("attacks", "verdict"):
        monkeypatch.delattr(f"loraudit.bench.{module}.load_base")
    monkeypatch.setattr(sys, "argv", ["loraudit", "bench", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    out, err = capsys.readouterr()
    assert (stop.value.code, out) == (2, "") and "nope" in err.splitlines()[-2]
    assert list(tmp_path.iterdir()) == []

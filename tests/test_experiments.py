"""The benches on the embedded base: the rows are there, and a control that must differ does."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.tables import face_gate_check, likelihood_ranks, merged_loras, near_copies
from benchmarks.tables.readability import rank1, ridge
from benchmarks.tables.text_steering import steering
from loraudit.base.model import Base, Sampling, load_base
from loraudit.bench.attacks import AttackBench, bench_attacks
from loraudit.bench.conditions import as_lora
from loraudit.bench.verdict import VerdictBench, bench_verdict
from loraudit.bench.verdict_tables import verdict_columns
from loraudit.cards import models_dir
from loraudit.errors import LorauditError
from loraudit.lora import load_lora
from loraudit.people.identity import SPLITS
from loraudit.people.things import Crowds
from loraudit.training.finetune import TINY, TINY_PRIOR, class_latents
from loraudit.training.zoo import Plan, build_zoo, open_zoo
from models.recipes import control_files


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base("tiny")


@pytest.fixture(scope="module")
def zoos(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people and two crowds, fine-tuned for two steps."""
    recipe = replace(TINY, steps=2, batch=1)
    prior = class_latents(base, recipe, 2, TINY_PRIOR)
    folder = tmp_path_factory.mktemp("zoos")
    first = SPLITS["private"].start
    people = Plan((first + 4, first + 8), recipe, (1, 2), people_per_pass=2)
    build_zoo(base, folder / "people", people, prior)
    crowds = Plan((first, first + 1), recipe, (2,), people_per_pass=2, data="crowds", pictures=4)
    build_zoo(base, folder / "crowds", crowds, prior, people=Crowds("private"))
    return folder


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


def test_zoos_become_what_calibrate_measures(zoos: Path, tmp_path: Path, capsys) -> None:
    people = str(zoos / "people")
    words = [str(zoos / "crowds"), "--people", people, "--weights", people, "--out", str(tmp_path)]
    control_files.main(words)
    assert capsys.readouterr().out == "2 crowds, 2 person, 2 weights\n"
    assert [path.name for path in (tmp_path / "weights-001").iterdir()] == ["lora.safetensors"]
    zoo = open_zoo(zoos / "people")
    for row in (0, 1):
        folder = tmp_path / f"person-{row + 1:03d}"
        assert sorted(path.name for path in folder.iterdir()) == [
            "0.png",
            "1.png",
            "2.png",
            "lora.safetensors",
        ]
        site, (up, down) = next(iter(zoo.rows([(row, 2)]).items()))
        factors = load_lora(str(folder / "lora.safetensors")).factors[site]
        assert np.allclose(factors.up @ factors.down, up[0] @ down[0], atol=1e-6)
    assert (tmp_path / "person-001/0.png").read_bytes() != (tmp_path / "person-002/0.png").read_bytes()


def test_merged_loras_are_counted_by_how_many_they_are_of(zoos: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "merged.json"
    merged_loras.main(["--zoo", str(zoos / "people"), "--out", str(out)])
    record = json.loads(out.read_text())
    assert (record["zoos"], record["calibration"]) == (1, 88)
    # Two people make one LoRA of two, and none of four.
    assert {kind: row["taken for merged"][1] for kind, row in record["kinds"].items()} == {
        "one person": 2,
        "2 merged": 1,
    }
    assert "one person: " in capsys.readouterr().out


def test_a_lora_is_cut_to_the_nearest_of_a_rank(zoos: Path) -> None:
    lora = as_lora(open_zoo(zoos / "people").terms(0, 2), 0)
    cut = merged_loras.cut(lora, 3)
    for site, whole in lora.factors.items():
        near = cut.factors[site]
        assert near.rank == 3
        values = np.linalg.svd(whole.up @ whole.down, compute_uv=False)
        missing = np.linalg.norm(whole.up @ whole.down - near.up @ near.down, 2)
        assert np.isclose(missing, values[3], atol=1e-4 * values[0])
        assert missing > 0


def test_photos_are_looked_for_among_the_pictures_of_each_guidance(zoos: Path, tmp_path: Path) -> None:
    out, people = tmp_path / "copies.json", str(zoos / "people")
    words = ["--copied", people, "--ordinary", people, "--people", "1", "--samples", "2", "--threads", "1"]
    near_copies.main([*words, "--out", str(out)])
    record = json.loads(out.read_text())
    # Two people by two guidances; of the ordinary zoo the last person alone.
    for kind, sets in (("copied", 4), ("ordinary", 2)):
        for photos in ("photos it was made of", "photos it never saw"):
            row = record[f"{kind}, {photos}"]
            # After two steps of fine-tuning nothing comes back.
            assert row["sets of pictures at high or above"][:2] == [0, sets]
            assert row["pictures that are copies"][:2] == [0, 2 * sets]
            least, median, most = row["nearest / nearest control"].values()
            assert 0.4 < least <= median <= most


def test_the_likelihood_of_a_person_and_of_a_stranger(zoos: Path, tmp_path: Path, monkeypatch) -> None:
    decoys = likelihood_ranks.read_decoys(models_dir() / "decoys-tiny")
    few = replace(decoys, latents=decoys.latents[:4])
    monkeypatch.setattr(likelihood_ranks, "read_decoys", lambda _folder: few)
    out = tmp_path / "likelihood.json"
    words = ["--zoo", str(zoos / "people"), "--harmless", str(zoos / "crowds"), "--people", "2"]
    likelihood_ranks.main([*words, "--out", str(out), "--threads", "1"])
    record = json.loads(out.read_text())
    assert len(decoys.latents) == 99 and (record["LoRAs"], record["decoys"]) == (4, 4)
    assert record["auroc"]["leaking"] == record["auroc"]["harmless"] == 2
    for who in ("own", "stranger", "stranger, LoRA of nobody"):
        tight, loose = (record[f"{who}, p <= {level}"] for level in (0.01, 0.1))
        # Among four decoys no p-value is below 0.2.
        assert tight[:2] == loose[:2] == record[f"{who}, low or above"][:2] == [0, 2]


def test_the_check_of_the_gate_counts_people_and_things(capsys) -> None:
    face_gate_check.main(["--people", "10"])
    passed = json.loads(capsys.readouterr().out)
    assert {total for _, total in passed.values()} == {20}
    assert passed["faces"][0] >= 19 and passed["faces, overdrawn"][0] >= 17
    assert sum(found for name, (found, _) in passed.items() if "faces" not in name) <= 2
    assert passed["noise, shuffled faces and the like"][0] == 0


def test_captions_of_other_people_do_not_steer_to_this_one(base: Base) -> None:
    """The negative control inside the check itself: with every embedding equal, rank-1 falls to chance."""
    settings = Sampling(4, 3.0)
    real, pictures = steering(base, 8, (0,), settings)
    assert pictures.shape == (8, 2, 3, 64, 64)
    blind = replace(base)
    object.__setattr__(blind, "encode_text", lambda prompts: base.encode_text([""] * len(prompts)))
    fake, _ = steering(blind, 8, (0,), settings)
    assert fake["rank1"] <= 0.25 < real["rank1"]  # type: ignore[operator]
    assert torch.isfinite(pictures).all()


def test_ridge_finds_a_linear_map_and_nothing_in_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    x, new = (torch.randn(n, 30, generator=generator) for n in (200, 40))
    mapping = torch.randn(30, 8, generator=generator)
    y, truth = x @ mapping, new @ mapping
    assert rank1(ridge(x, y, new, 1e-3), truth - y.mean(0)) == 40
    assert rank1(ridge(x, y[torch.randperm(200, generator=generator)], new), truth - y.mean(0)) < 10

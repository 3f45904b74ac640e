"""The tables behind docs and cards, on the embedded base, each with a control that must differ."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.tables import face_gate_check, likelihood_ranks, merged_loras, near_copies
from benchmarks.tables.readability import rank1, ridge
from benchmarks.tables.text_steering import steering
from loraudit.base.load import load_base
from loraudit.base.model import Base, Sampling
from loraudit.bench.conditions import as_lora
from loraudit.cards import models_dir
from loraudit.training.zoo import open_zoo
from tests.zoos import make_zoos


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base("tiny")


@pytest.fixture(scope="module")
def zoos(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_zoos(base, tmp_path_factory.mktemp("zoos"))


def test_merged_loras_are_counted_by_how_many_they_are_of(zoos: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "merged.json"
    merged_loras.main(["--zoo", str(zoos / "people"), "--out", str(out)])
    record = json.loads(out.read_text())
    assert (record["zoos"], record["calibration"]) == (1, 96)
    # Two people make one LoRA of two, and none of four.
    kinds = {kind: row["taken for merged"][1] for kind, row in record["kinds"].items()}
    assert kinds.pop("one person") == 2
    ways = ("", ", 7 to 3", ", factors added", *(f", cut to rank {rank}" for rank in (4, 8, 16)))
    assert kinds == {f"2 merged{way}": 1 for way in ways}
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

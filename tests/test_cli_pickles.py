"""Pickles beside a clean file: in the report, seen by `--fail-on`, never opened."""

import json
import os
from pathlib import Path

import pytest

from loraudit.lora.source.address import PICKLES
from tests.headers import write

METADATA = ("--depth", "metadata")
RULE = "LA-PICKLE-001"


def found(scan, *arguments: object) -> dict[str, list[str]]:
    """File => its findings about pickles, as their private words."""
    document = json.loads(scan(*arguments, *METADATA, "--reveal", "-f", "json")[1])
    return {
        report["target"]["name"]: [
            quote for one in report["findings"] if one["id"] == RULE for quote in one["quotes"]
        ]
        for report in document.get("reports", [document])
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "loras").mkdir()
    write(tmp_path / "loras" / "lora.safetensors", {})
    return tmp_path / "loras"


@pytest.mark.parametrize("ending", [*PICKLES, ".PT"])
def test_the_gate_sees_a_pickle(scan, folder: Path, ending: str) -> None:
    assert scan(folder, *METADATA, "--fail-on", "low")[0] == 0, "the control"
    os.mkfifo(folder / f"mara_lindqvist{ending}")  # opening it would hang
    assert scan(folder, *METADATA)[0] == 0
    code, out, err = scan(folder, *METADATA, "--fail-on", "medium")
    assert code == 1
    assert "VERDICT: MEDIUM" in out and RULE in out
    assert "mara" not in out + err
    assert found(scan, folder) == {"lora.safetensors": [f"mara_lindqvist{ending}"]}


def test_each_pickle_is_in_one_report_of_its_folder(scan, folder: Path) -> None:
    for inner in ("a", "a/deep", "b"):
        (folder / inner).mkdir()
    write(folder / "a" / "one.safetensors", {})
    write(folder / "a" / "two.safetensors", {})
    for name in ("top.pt", "a/own.ckpt", "a/deep/below.bin", "b/alone.pkl"):
        (folder / name).touch()
    of_a = ["a/deep/below.bin", "a/own.ckpt"]
    assert found(scan, folder) == {
        "a/one.safetensors": of_a,
        "a/two.safetensors": [],
        "lora.safetensors": ["b/alone.pkl", "top.pt"],
    }
    assert found(scan, folder / "a") == {
        "one.safetensors": ["deep/below.bin", "own.ckpt"],
        "two.safetensors": [],
    }


def test_a_pickle_above_every_lora_is_in_the_first_report(scan, tmp_path: Path) -> None:
    for inner in "ab":
        (tmp_path / inner).mkdir()
        write(tmp_path / inner / f"{inner}.safetensors", {})
    (tmp_path / "x.pt").touch()
    assert found(scan, tmp_path) == {"a/a.safetensors": ["x.pt"], "b/b.safetensors": []}


def test_a_file_alone_has_the_pickle_of_its_name(scan, folder: Path) -> None:
    (folder / "other.pt").touch()
    assert found(scan, folder / "lora.safetensors") == {"lora.safetensors": []}
    (folder / "lora.ckpt").touch()
    assert found(scan, folder / "lora.safetensors") == {"lora.safetensors": ["lora.ckpt"]}


def test_a_known_pickle_stays_known_when_a_file_comes(scan, folder: Path, tmp_path: Path) -> None:
    (folder / "x.pt").touch()
    baseline = tmp_path / "b.json"
    scan(folder, *METADATA, "-f", "json", "-o", baseline)
    gate = (*METADATA, "--fail-on", "low", "--baseline", baseline)
    assert scan(folder, *gate)[0] == 0
    write(folder / "a.safetensors", {})
    code, out, _ = scan(folder, *gate, "-f", "json")
    known = [[one["known"] for one in report["findings"]] for report in json.loads(out)["reports"]]
    assert (code, known) == (0, [[True], []])
    (folder / "b").mkdir()
    write(folder / "b" / "b.safetensors", {})
    (folder / "b" / "y.pt").touch()
    assert scan(folder, *gate)[0] == 1, "of another folder"

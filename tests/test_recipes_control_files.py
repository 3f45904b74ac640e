"""Zoos as the files that `loraudit calibrate` measures."""

from pathlib import Path

import numpy as np
import pytest

from loraudit.base.load import load_base
from loraudit.base.model import Base
from loraudit.lora import load_lora
from loraudit.training.zoo import open_zoo
from models.recipes import control_files
from tests.zoos import make_zoos


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base("tiny")


@pytest.fixture(scope="module")
def zoos(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_zoos(base, tmp_path_factory.mktemp("zoos"))


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

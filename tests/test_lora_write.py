"""What is written reads back the same in every layout, and is there whole or not at all."""

import os
import stat
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from loraudit.errors import LorauditError
from loraudit.files import write_atomic
from loraudit.lora import load_lora, write_diffusers, write_kohya, write_peft
from loraudit.lora.layouts.topology import topologies
from loraudit.lora.write import serialize

WRITERS = {"diffusers": write_diffusers, "kohya": write_kohya, "peft": write_peft}


@pytest.mark.parametrize("dialect", WRITERS)
def test_the_three_layouts_of_one_lora_read_equal(dialect: str, tmp_path: Path, sd1_factors) -> None:
    WRITERS[dialect](sd1_factors, tmp_path / "x")
    lora = load_lora(tmp_path / "x")
    assert (lora.dialect, lora.base, lora.unread) == (dialect, "sd14", ())
    assert list(lora.factors) == sorted(sd1_factors)
    for site, factors in lora.factors.items():
        np.testing.assert_array_equal(factors.up, sd1_factors[site].up)
        np.testing.assert_array_equal(factors.down, sd1_factors[site].down)


@pytest.mark.parametrize("dialect", WRITERS)
def test_every_module_survives(dialect: str, tmp_path: Path, make_factors) -> None:
    sd1 = topologies()[0]
    WRITERS[dialect](make_factors("sd14", list(sd1.shapes)), tmp_path / "x")
    assert set(load_lora(tmp_path / "x").factors) == set(sd1.shapes)


def test_equal_loras_are_equal_bytes(tmp_path: Path, sd1_factors) -> None:
    metadata = {str(number): "x" for number in range(20)}
    write_diffusers(sd1_factors, tmp_path / "a", metadata)
    write_diffusers(dict(reversed(sd1_factors.items())), tmp_path / "b", dict(reversed(metadata.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert load_lora(tmp_path / "a").file.metadata == metadata | {"format": "pt"}


def test_the_reference_parser_reads_it(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = {"b": rng.standard_normal((3, 5), dtype=np.float32), "a": np.float32(7).reshape(())}
    (tmp_path / "x").write_bytes(serialize(arrays, {"é": "ü"}))
    with safe_open(tmp_path / "x", "np") as file:
        assert file.metadata() == {"é": "ü"}
        for key, array in arrays.items():
            np.testing.assert_array_equal(file.get_tensor(key), array)


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"before")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LorauditError, match="No space left"):
        write_atomic(path, b"after")
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_paths_that_cannot_be_written(tmp_path: Path, sd1_factors) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "no" / "folder", tmp_path / "file" / "x"):
        with pytest.raises(LorauditError, match="cannot write"):
            write_diffusers(sd1_factors, path)
    with pytest.raises(LorauditError, match="cannot write"):
        write_peft(sd1_factors, tmp_path / "file" / "x")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_permissions_and_links(tmp_path: Path) -> None:
    write_atomic(tmp_path / "private", b"x", 0o600)
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_atomic(tmp_path / "link", b"x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"x"
    write_atomic(Path(os.devnull), b"x")
    assert not Path(os.devnull).is_file()

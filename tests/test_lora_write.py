"""What is written reads back the same in every layout, and is there whole or not at all."""

from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from loraudit.errors import LorauditError
from loraudit.lora import load_lora, write_diffusers, write_kohya, write_peft
from loraudit.lora.layouts.topology import topologies
from loraudit.lora.write import serialize

WRITERS = {"diffusers": write_diffusers, "kohya": write_kohya, "peft": write_peft}


@pytest.mark.parametrize("dialect", WRITERS)
def test_the_three_layouts_of_one_lora_read_equal(dialect: str, tmp_path: Path, sd1_factors) -> None:
    WRITERS[dialect](sd1_factors, tmp_path / "x")
    lora = load_lora(tmp_path / "x")
    assert (lora.dialect, lora.base, lora.unread) == (dialect, "sd15", ())
    assert list(lora.factors) == sorted(sd1_factors)
    for site, factors in lora.factors.items():
        np.testing.assert_array_equal(factors.up, sd1_factors[site].up)
        np.testing.assert_array_equal(factors.down, sd1_factors[site].down)


@pytest.mark.parametrize("dialect", WRITERS)
def test_every_module_survives(dialect: str, tmp_path: Path, make_factors) -> None:
    sd1 = topologies()[0]
    WRITERS[dialect](make_factors("sd15", list(sd1.shapes)), tmp_path / "x")
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


def test_paths_that_cannot_be_written(tmp_path: Path, sd1_factors) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "no" / "folder", tmp_path / "file" / "x"):
        with pytest.raises(LorauditError, match="cannot write"):
            write_diffusers(sd1_factors, path)
    with pytest.raises(LorauditError, match="cannot write"):
        write_peft(sd1_factors, tmp_path / "file" / "x")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_exists_keeps_its_other_files(tmp_path: Path, sd1_factors) -> None:
    folder = tmp_path / "peft"
    folder.mkdir()
    (folder / "README.md").write_text("mine")
    write_peft(sd1_factors, folder)
    write_peft(sd1_factors, tmp_path / "new")
    written = [
        {file.relative_to(root): file.read_bytes() for file in root.rglob("*") if file.is_file()}
        for root in (folder, tmp_path / "new")
    ]
    assert written[0] == {Path("README.md"): b"mine", **written[1]} and len(written[1]) > 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "peft"]


@pytest.mark.parametrize("stale", [".x.partial", "x.partial", ".x.0123456789abcdef.tmp"])
def test_what_an_earlier_run_left_is_not_adopted(stale: str, tmp_path: Path, sd1_factors) -> None:
    """A folder half written by somebody else holds other files, which the new folder must not have."""
    (tmp_path / stale / "unet").mkdir(parents=True)
    for name in ("adapter_model.bin", "unet/adapter_config.json", "unet/adapter_model.safetensors"):
        (tmp_path / stale / name).write_bytes(b"theirs")
    write_peft(sd1_factors, tmp_path / "x")
    (tmp_path / "elsewhere").mkdir()
    write_peft(sd1_factors, tmp_path / "elsewhere" / "x")
    names = {str(path.relative_to(tmp_path / "x")) for path in (tmp_path / "x").rglob("*")}
    alone = tmp_path / "elsewhere" / "x"
    assert names == {str(path.relative_to(alone)) for path in alone.rglob("*")}
    assert set(load_lora(tmp_path / "x").factors) == set(sd1_factors)
    assert (tmp_path / stale / "adapter_model.bin").read_bytes() == b"theirs"


def test_an_adapter_written_over_another_leaves_none_of_its_files(tmp_path: Path, sd1_factors) -> None:
    """With one component the files are in the folder itself, with two each has a folder of its own."""
    unet = {site: pair for site, pair in sd1_factors.items() if site.startswith("unet.")}
    for before, after in ((sd1_factors, unet), (unet, sd1_factors)):
        folder = tmp_path / f"{len(before)}"
        write_peft(before, folder)
        (folder / "README.md").write_text("mine")
        write_peft(after, folder)
        assert set(load_lora(folder).factors) == set(after)
        write_peft(after, tmp_path / f"{len(before)}-new")
        held = {path.relative_to(folder) for path in folder.rglob("*.*")}
        new = tmp_path / f"{len(before)}-new"
        assert held == {*(path.relative_to(new) for path in new.rglob("*.*")), Path("README.md")}

"""A small file that would take much memory, or whose numbers no model can use, is refused before it does."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from loraudit.errors import NotScannable
from loraudit.lora import Factors, load_lora, write_diffusers
from loraudit.lora.layouts.topology import topologies
from tests.test_lora_file_fuzz import memory_below

SITE = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_v"
SHAPES = next(base.shapes for base in topologies() if base.base == "sd15")
F8 = ml_dtypes.float8_e4m3fn


def write(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Path:
    save_file({key: np.ones(shape, F8) for key, shape in shapes.items()}, path)
    return path


def pair(rank: int, site: str = SITE) -> dict[str, tuple[int, ...]]:
    outputs, inputs = SHAPES[site][0], SHAPES[site][1]
    return {f"{site}.lora.down.weight": (rank, inputs), f"{site}.lora.up.weight": (outputs, rank)}


@pytest.mark.parametrize("rank", [769, 1281, 3000])
def test_a_rank_above_both_sides_is_refused(rank: int, tmp_path: Path) -> None:
    path = write(tmp_path / "x.safetensors", pair(rank))
    with memory_below(1e6), pytest.raises(NotScannable, match=f"rank {rank} is above both sides"):
        load_lora(path)


def test_a_rank_as_large_as_a_side_is_read(tmp_path: Path) -> None:
    """The control; trainers give small convolutions the rank of all others."""
    assert load_lora(write(tmp_path / "x.safetensors", pair(768))).rank == (768, 768)


def test_a_bomb_beside_a_sound_module_is_left_out(tmp_path: Path) -> None:
    other = SITE.replace("to_v", "to_k")
    lora = load_lora(write(tmp_path / "x.safetensors", pair(2000) | pair(4, other)))
    assert set(lora.factors) == {other}
    assert {item.key for item in lora.unread} == set(pair(2000))


@pytest.mark.parametrize("kind", ["tucker", "loha", "loha tucker", "lokr", "lokr tucker"])
def test_every_inner_dimension_counts(kind: str, tmp_path: Path) -> None:
    start = "lora_unet_down_blocks_0_resnets_0_conv1"
    many, core = 3000, (3000, 1, 3, 3)
    shapes: dict[str, tuple[int, ...]] = {
        "tucker": {
            "lora_up.weight": (320, many, 1, 1), "lora_mid.weight": core, "lora_down.weight": (1, 320, 1, 1)
        },
        "loha": {
            "hada_w1_a": (320, many), "hada_w1_b": (many, 2880), "hada_w2_a": (320, 1), "hada_w2_b": (1, 2880)
        },
        "loha tucker": {
            "hada_w1_a": (many, 320), "hada_w1_b": (1, 320), "hada_t1": core,
            "hada_w2_a": (1, 320), "hada_w2_b": (1, 320), "hada_t2": (1, 1, 3, 3),
        },
        "lokr": {"lokr_w1": (1, 1), "lokr_w2_a": (320, many), "lokr_w2_b": (many, 2880)},
        "lokr tucker": {"lokr_w1": (1, 1), "lokr_w2_a": (many, 320), "lokr_w2_b": (1, 320), "lokr_t2": core},
    }[kind]  # fmt: skip
    path = write(tmp_path / "x.safetensors", {f"{start}.{name}": shape for name, shape in shapes.items()})
    with memory_below(1e6), pytest.raises(NotScannable, match="rank 3000 is above both sides"):
        load_lora(path)


def lokr(path: Path, count: int) -> Path:
    """A LoKr of two whole factors for so many modules, a few kilobytes each."""
    sites = [site for site in SHAPES if site.startswith("unet.") and SHAPES[site][0] == 1280][:count]
    tensors = {}
    for site in sites:
        name = "lora_unet_" + site.removeprefix("unet.").replace(".", "_")
        outputs, inputs, *kernel = SHAPES[site]
        tensors[f"{name}.lokr_w1"] = (32, 32)
        tensors[f"{name}.lokr_w2"] = (outputs // 32, inputs // 32, *kernel)
    return write(path, tensors)


def test_a_bomb_of_whole_factors_is_refused(tmp_path: Path) -> None:
    path = lokr(tmp_path / "x.safetensors", 80)
    assert path.stat().st_size < 1_000_000
    with memory_below(5e6), pytest.raises(NotScannable, match=r"multiplied out, would take \d"):
        load_lora(path)


def test_a_few_whole_factors_are_read(tmp_path: Path) -> None:
    assert load_lora(lokr(tmp_path / "x.safetensors", 2)).rank == (320, 1280)


@pytest.mark.parametrize(
    ("up", "down"), [(1e30, 1e30), (1e30, 1e-30), (1e-30, 1e30), (1e10, 1e10), (-1e30, 1e9), (3e38, 3e38)]
)
def test_numbers_that_no_model_can_use(up: float, down: float, tmp_path: Path) -> None:
    factors = {SITE: Factors(np.full((320, 4), up, np.float32), np.full((4, 768), down, np.float32), 1.0)}
    write_diffusers(factors, tmp_path / "x.safetensors")
    with pytest.raises(NotScannable, match="too large"):
        load_lora(tmp_path / "x.safetensors")


def test_large_numbers_that_a_model_can_use(tmp_path: Path) -> None:
    factors = {SITE: Factors(np.full((320, 4), 65504, np.float32), np.full((4, 768), 65504, np.float32), 1.0)}
    write_diffusers(factors, tmp_path / "x.safetensors")
    assert np.isfinite(load_lora(tmp_path / "x.safetensors").factors[SITE].delta()).all()


def test_the_report_alone_reaches_stdout(tmp_path: Path) -> None:
    factors = {SITE: Factors(np.full((320, 4), 1e30, np.float32), np.full((4, 768), 1e30, np.float32), 1.0)}
    write_diffusers(factors, tmp_path / "x.safetensors")
    command = [sys.executable, "-m", "loraudit", "scan", str(tmp_path / "x.safetensors"), "-f", "json"]
    done = subprocess.run([*command, "--depth", "weights"], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "too large" in json.loads(done.stdout)["incomplete"][0]["why"]

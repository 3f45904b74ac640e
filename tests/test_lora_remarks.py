"""Updates that no training leaves are remarked on; a trained one among them silences the remark."""

import json
from pathlib import Path

import numpy as np
import pytest

from loraudit.lora import Factors, load_lora, write_diffusers
from loraudit.lora.remarks import remark

SITES = [f"unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_{leaf}" for leaf in "kv"]


def made(kind: str, rng: np.random.Generator) -> Factors:
    up, down = rng.standard_normal((320, 4)), rng.standard_normal((4, 768))
    if kind == "zero":
        up = np.zeros_like(up)  # as LoRA starts
    elif kind == "constant":
        up, down = np.full_like(up, 0.01), np.full_like(down, -0.5)
    elif kind == "denormal":
        up, down = up * 1e-25, down * 1e-20
    elif kind == "denormal factor":
        up = up * 1e-42
    return Factors(up.astype(np.float32), down.astype(np.float32), 1.0)


WORDS = {"zero": "is zero", "constant": "same number", "denormal": "denormal", "denormal factor": "denormal"}


@pytest.mark.parametrize("kind", WORDS)
def test_a_remark_on_what_no_training_leaves(kind: str, rng, scan, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_diffusers({site: made(kind, rng) for site in SITES}, path)
    assert WORDS[kind] in str(remark(load_lora(path)))
    code, out, _ = scan(path, "--depth", "weights", "-f", "json")
    (gap,) = json.loads(out)["incomplete"]
    assert code == 4
    assert WORDS[kind] in gap["why"]


def test_several_kinds_are_counted(rng, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_diffusers({SITES[0]: made("zero", rng), SITES[1]: made("constant", rng)}, path)
    assert remark(load_lora(path)) == "no update can have been trained: 1 zero, 1 constant"


@pytest.mark.parametrize("kind", ["trained", *WORDS])
def test_one_trained_module_is_enough(kind: str, rng, scan, tmp_path: Path) -> None:
    """Trainers leave modules at zero that they were not asked to train."""
    path = tmp_path / "x.safetensors"
    write_diffusers({SITES[0]: made(kind, rng), SITES[1]: made("trained", rng)}, path)
    assert remark(load_lora(path)) is None
    assert scan(path, "--depth", "weights")[0] == 0

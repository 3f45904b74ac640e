"""`loraudit scan` of DoRA: read exactly where it attacks, named as unread where it does not."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from benchmarks.tables import layouts
from loraudit.base.load import load_base
from loraudit.base.model import Base
from loraudit.lora import load_lora
from loraudit.lora.dora import NEEDS_BASE, resolve

LINEAR = "unet.mid_block.attentions.0.transformer_blocks.0.ff.net.2"
CONVOLUTION = "unet.mid_block.resnets.0.conv1"


@pytest.fixture(scope="module")
def tiny() -> Base:
    return load_base("tiny")


def test_a_scan_reads_dora_where_it_attacks(scan, tiny, make_factors, rng, tmp_path: Path) -> None:
    """The same scores as of a file that holds the whole difference; without the base it is incomplete."""
    factors = make_factors("tiny", [LINEAR, CONVOLUTION])
    tensors = layouts.write("K1", factors)
    starts = {site: layouts.k1(site)[0] for site in factors}
    for start in starts.values():
        tensors[f"{start}lora_up.weight"] *= 0.01
        tensors[f"{start}dora_scale"] = rng.uniform(0.5, 1, (128, 1)).astype(np.float32)
    save_file(tensors, tmp_path / "dora.safetensors")
    lora = load_lora(tmp_path / "dora.safetensors")
    base = tiny.weights(lora.dora)
    whole = resolve(lora, base).factors
    diffs = {f"{starts[site]}diff": own.delta().reshape(base[site].shape) for site, own in whole.items()}
    save_file(diffs, tmp_path / "diff.safetensors")
    plain = {key: value for key, value in tensors.items() if not key.endswith("dora_scale")}
    save_file(plain, tmp_path / "plain.safetensors")
    reports = {}
    for name in ("dora", "diff", "plain"):
        options = ("--attack", "prompts", "--samples", 2, "--steps", 2, "--device", "cpu", "--offline")
        _, out, _ = scan(tmp_path / f"{name}.safetensors", *options, "-f", "json")
        reports[name] = json.loads(out)
    assert reports["dora"]["incomplete"] == []
    assert reports["dora"]["target"]["modules"] == {"read": 2, "unread": 0, "total": 2}
    values = {name: [score["value"] for score in report["scores"]] for name, report in reports.items()}
    assert values["dora"] == pytest.approx(values["diff"], abs=1e-3)
    assert values["dora"] != pytest.approx(values["plain"], abs=1e-3)
    code, out, _ = scan(tmp_path / "dora.safetensors", "--depth", "weights", "-f", "json")
    assert (code, json.loads(out)["target"]["modules"]["read"]) == (4, 0)
    assert NEEDS_BASE in json.loads(out)["incomplete"][0]["why"]

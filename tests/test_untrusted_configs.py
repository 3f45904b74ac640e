"""A hostile configuration costs its own file and no other: exit code 3 and a line, never a traceback."""

import json
from pathlib import Path

import pytest

from benchmarks import fuzz_config
from loraudit.lora import Factors, write_diffusers, write_peft
from tests.headers import write

HOSTILE = {
    "type": {"peft_type": ["LORA"], "r": 4},
    "negative": {"peft_type": "LOKR", "r": -8, "alpha": 8, "use_rslora": True},
    "zero": {"peft_type": "LOKR", "r": 8, "alpha": 8, "rank_pattern": {"to_k": 0}},
    "digits": {"peft_type": "LORA", "r": 4, "lora_alpha": 10**400},
    "pissa": {"peft_type": "LORA", "r": 4, "init_lora_weights": "pissa"},
    "nested": {"peft_type": "LORA", "r": {"r": {"r": 4}}},
}


@pytest.fixture
def factors(make_factors) -> dict[str, Factors]:
    return make_factors("tiny", ["unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"])


def test_a_hostile_configuration_harms_no_other_file(factors, scan, tmp_path: Path) -> None:
    for name, config in HOSTILE.items():
        write_peft(factors, tmp_path / name)
        (tmp_path / name / "adapter_config.json").write_text(json.dumps(config))
    write_peft(factors, tmp_path / "sound")
    header = {"lora_adapter_metadata": '{"unet.r": 4, "unet.lora_alpha": 1' + "0" * 400 + "}"}
    write(tmp_path / "digits.safetensors", header)
    write_diffusers(factors, tmp_path / "plain.safetensors")
    code, out, err = scan(tmp_path, "--depth", "weights", "-f", "json")
    reports = json.loads(out)["reports"]
    read = {report["target"]["name"] for report in reports if report["target"]["modules"]}
    assert read == {"plain.safetensors", "sound/adapter_model.safetensors"}
    assert code == 3
    assert len(reports) == len(HOSTILE) + 3
    assert "internal error" not in err


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_configuration_alone(case: str, factors, scan, tmp_path: Path) -> None:
    write_peft(factors, tmp_path / "tuned")
    assert scan(tmp_path / "tuned", "--depth", "weights")[0] == 0  # the control
    (tmp_path / "tuned" / "adapter_config.json").write_text(json.dumps(HOSTILE[case]))
    code, _, err = scan(tmp_path / "tuned", "--depth", "weights")
    assert code == 3
    # The report of a folder with one LoRA names the file.
    assert err.startswith("loraudit: error: adapter_model.safetensors: adapter_config.json ")
    assert len(err.splitlines()) == 2


def test_the_fuzzer_finds_nothing_and_reaches_both_ends(tmp_path: Path) -> None:
    """A short run of benchmarks/fuzz_config.py; docs/fuzzing.md has the long one."""
    maker = fuzz_config.Maker(3)
    ended = {fuzz_config.run_one(maker.write(tmp_path)) for _ in range(200)}
    assert ended == {"read", "NotScannable"}

"""What `loraudit scan` cannot read or was asked wrongly: one line, the exit code, no report."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from loraudit.base.load import load_base
from loraudit.lora import write_kohya
from tests.audits import random_factors

QUICK = ("--samples", 2, "--steps", 2, "--device", "cpu", "--offline")


@pytest.fixture(scope="module")
def lora(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("lora") / "ada.safetensors"
    write_kohya(random_factors(load_base("tiny")), path)
    return path


def test_a_target_that_is_no_lora(scan, tmp_path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    code, out, err = scan(tmp_path / "x.safetensors")
    assert code == 3
    assert "NOT SCANNED" in out
    first, hint = err.splitlines()
    assert first.startswith("loraudit: error: ") and "Git LFS pointer" in first and hint.strip()


def test_a_target_of_another_family(scan, tmp_path) -> None:
    tensors = {"lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight": torch.ones(4, 4)}
    save_file(tensors, tmp_path / "x.safetensors")
    code, _, err = scan(tmp_path / "x.safetensors")
    assert code == 3
    assert err.splitlines() == [
        "loraudit: error: x.safetensors is a LoRA for FLUX or HunyuanVideo",
        "  loraudit audits LoRAs for SD 1.x",
    ]


def test_usage_errors_are_one_line_and_make_no_report(scan, lora, tmp_path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no picture")
    for arguments, words in [
        ((tmp_path / "gone",), "no such file"),
        ((lora, "-o", tmp_path / "gone" / "report"), "cannot write"),
        ((lora, "-o", tmp_path), "cannot write"),
        ((lora, "--base", "sd99"), "no base is called 'sd99'"),
        ((lora, "--reference", tmp_path / "gone"), "there is no folder"),
        ((lora, "--reference", tmp_path / "broken"), "is not a photo that can be read"),
        ((lora, "--encoder", "no-such"), "there is no encoder no-such"),
        ((lora, "--save-images", tmp_path / "full"), "is not empty"),
        *([] if torch.cuda.is_available() else [((lora, "--device", "cuda"), "no CUDA device")]),
    ]:
        code, out, err = scan(*arguments, *(QUICK if "--device" not in arguments else ()))
        assert (code, out) == (2, ""), arguments
        assert words in err
        assert err.splitlines()[-2].startswith("loraudit: error: ")
    assert (tmp_path / "full" / "mine").read_text() == "mine"


def test_options_are_checked(scan, lora) -> None:
    for arguments in (
        ("--samples", 0),
        ("--attack", "magic"),
        ("--fail-on", "none"),
        ("--format", "yaml"),
        ("--seed", -1),
    ):
        code, out, _ = scan(lora, *arguments)
        assert (code, out) == (2, "")

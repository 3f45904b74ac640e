"""What `loraudit scan` cannot read: one line, the exit code, no report."""

import torch
from safetensors.torch import save_file


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

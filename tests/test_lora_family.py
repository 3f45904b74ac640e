"""A LoRA of another family is named for what it is; one of SD 1.x finds its base."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from loraudit.errors import NotScannable
from loraudit.lora import load_lora, write_diffusers
from loraudit.lora.topology import topologies

BLOCK = "down_blocks_1_attentions_0_transformer_blocks_0"


def write(path: Path, *pairs: tuple[str, Sequence[int], Sequence[int]]) -> Path:
    """A kohya file: module name, down shape, up shape."""
    tensors = {}
    for name, down, up in pairs:
        tensors[f"{name}.lora_down.weight"] = np.ones(down, np.float32)
        tensors[f"{name}.lora_up.weight"] = np.ones(up, np.float32)
    save_file(tensors, path)
    return path


@pytest.mark.parametrize(
    ("name", "width", "words"),
    [
        (f"lora_unet_{BLOCK}_attn2_to_k", 1024, r"LoRA for SD 2\.x \(cross-attention width 1024\)"),
        (f"lora_unet_{BLOCK}_attn2_to_v", 2048, "LoRA for SDXL"),
        (f"lora_unet_{BLOCK}_attn2_to_v", 1280, "SDXL refiner"),
        (f"lora_unet_{BLOCK}_attn2_to_v", 512, "cross-attention width 512, which fits no base .*SD 1.x 768"),
        ("lora_te_text_model_encoder_layers_0_self_attn_q_proj", 1024, r"LoRA for SD 2\.x"),
        (
            "lora_te_text_model_encoder_layers_0_self_attn_q_proj",
            640,
            "text encoder width 640, which fits no base",
        ),
        (f"lora_unet_{BLOCK}_attn1_to_q", 96, "fit no base"),
        ("lora_te2_text_model_encoder_layers_0_self_attn_q_proj", 1280, "LoRA for SDXL"),
        ("lora_unet_down_blocks_1_attentions_0_transformer_blocks_1_attn1_to_q", 640, "LoRA for SDXL"),
        ("lora_unet_double_blocks_0_img_attn_qkv", 3072, "LoRA for FLUX"),
        ("transformer.single_transformer_blocks.0.attn.to_q", 3072, "LoRA for FLUX"),
        ("lora_unet_joint_blocks_0_x_block_attn_qkv", 1536, "LoRA for SD 3"),
        ("transformer.transformer_blocks.0.attn.to_q", 3072, "LoRA for a diffusion transformer"),
        ("base_model.model.model.layers.0.self_attn.q_proj", 4096, "LoRA for a language model"),
        ("base_model.model.transformer.h.0.attn.c_attn", 768, "LoRA for a language model"),
        ("lora_unet_nonsense", 768, "no LoRA matrices that can be read: no base has a module"),
    ],
)
def test_other_families(tmp_path: Path, name: str, width: int, words: str) -> None:
    path = write(tmp_path / "x.safetensors", (name, (4, width), (640, 4)))
    with pytest.raises(NotScannable, match=words) as caught:
        load_lora(path)
    assert "SD 1.x" in caught.value.hint


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (
            {"model.diffusion_model.out.2.weight": (4, 320, 3, 3), "cond_stage_model.x": (1,)},
            "full checkpoint",
        ),
        ({"down_blocks.0.resnets.0.conv1.weight": (4, 4, 3, 3)}, "a whole network"),
        ({"text_model.encoder.layers.0.mlp.fc1.weight": (8, 4)}, "a whole network"),
        ({"emb_params": (2, 768)}, "textual inversion"),
        ({"<ada>": (768,)}, "textual inversion"),
        ({"ada": (3, 768)}, "may be a textual inversion"),
        ({"x.weight": (1, 1), "y.weight": (1,), "z.weight": (1,)}, "no LoRA matrices"),
        ({}, "holds no tensors"),
    ],
)
def test_files_that_are_no_lora(tmp_path: Path, tensors: dict, words: str) -> None:
    path = tmp_path / "x.safetensors"
    save_file({key: np.ones(shape, np.float32) for key, shape in tensors.items()}, path)
    with pytest.raises(NotScannable, match=words):
        load_lora(path)


def test_sd1(tmp_path: Path, sd1_factors) -> None:
    write_diffusers(sd1_factors, tmp_path / "x.safetensors")
    lora = load_lora(tmp_path / "x.safetensors")
    assert (lora.family, lora.base, lora.rank) == ("SD 1.x", "sd14", (2, 3))


def test_a_module_of_the_wrong_size_is_left_out(tmp_path: Path) -> None:
    good = [(f"lora_unet_{BLOCK}_attn1_to_{leaf}", (4, 640), (640, 4)) for leaf in "qk"]
    path = write(tmp_path / "x.safetensors", *good, (f"lora_unet_{BLOCK}_attn1_to_v", (4, 320), (640, 4)))
    lora = load_lora(path)
    assert len(lora.factors) == 2
    assert {item.why for item in lora.unread} == {"its size [640, 320] is not the module's [640, 640]"}


def test_tiny(tmp_path: Path, make_factors) -> None:
    tiny = next(topology for topology in topologies() if topology.base == "tiny")
    sites = [site for site in tiny.shapes if site.endswith((".to_q", ".to_v"))]
    write_diffusers(make_factors("tiny", sites), tmp_path / "x.safetensors")
    lora = load_lora(tmp_path / "x.safetensors")
    assert (lora.family, lora.base, set(lora.factors)) == ("tiny", "tiny", set(sites))

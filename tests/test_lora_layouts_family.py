"""A LoRA of another family is named for what it is; one of SD 1.x finds its base."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from loraudit.errors import NotScannable
from loraudit.lora import load_lora, write_diffusers
from loraudit.lora.layouts.topology import topologies

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
        ("lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k", 2048, "LoRA for SDXL"),
        ("lora_unet_input_blocks_4_1_transformer_blocks_1_attn2_to_k", 2048, "LoRA for SDXL"),
        ("diffusion_model.middle_block.1.transformer_blocks.9.attn1.to_q", 1280, "LoRA for SDXL"),
        ("lora_unet_up_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q", 1280, "LoRA for SDXL"),
        ("text_encoder_2.text_model.encoder.layers.0.self_attn.q_proj", 1280, "LoRA for SDXL"),
        ("diffusion_model.double_blocks.0.img_attn.qkv", 3072, "LoRA for FLUX or HunyuanVideo"),
        ("double_blocks.0.processor.qkv_lora1", 3072, "LoRA for FLUX or HunyuanVideo"),
        ("transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj", 3072, r"LoRA for FLUX\.2"),
        ("lora_te3_encoder_block_0_layer_0_SelfAttention_q", 4096, "LoRA for SD 3"),
        ("transformer.transformer_blocks.3.attn.add_q_proj", 1536, "LoRA for SD 3"),
        ("lora_transformer_transformer_blocks_0_attn_to_q", 1536, "LoRA for a diffusion transformer"),
        ("diffusion_model.layers.0.attention.qkv", 2304, "LoRA for a diffusion transformer"),
        ("diffusion_model.blocks.0.self_attn.q", 1536, "LoRA for a diffusion transformer"),
        ("lora_unet_blocks_0_self_attn_q", 1536, "LoRA for a diffusion transformer"),
        ("lora_prior_unet_down_blocks_0_0_channelwise_0", 1536, "LoRA for Stable Cascade"),
        ("base_model.model.gpt_neox.layers.0.attention.query_key_value", 768, "LoRA for a language model"),
        ("base_model.model.backbone.stack.0.mixer.q_proj", 4096, "LoRA for a language model"),
        ("base_model.model.model.vision_tower.x.q_proj", 1024, "LoRA for a language model"),
        ("oft_unet_down_blocks_0_attentions_0", 320, "an OFT adapter"),
        ("lora_unet_down_blocks_0_motion_modules_0_to_q", 320, "AnimateDiff motion LoRA"),
        ("lllite_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q", 640, "ControlNet-LLLite"),
        ("unet.mid_block.attentions.0.processor.to_k_custom_diffusion", 768, "Custom Diffusion"),
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
        ({"lora_controlnet": (1,), "input_blocks.0.0.up": (320, 4)}, "Control-LoRA"),
        ({"input_hint_block.0.weight": (16, 3, 3, 3)}, "Control-LoRA"),
        ({"controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3)}, "a ControlNet"),
        ({"ip_adapter.1.to_k_ip.weight": (320, 768)}, "IP-Adapter"),
        ({"down_blocks.0.attentions.0.to_q.___.layer.W_down": (4, 320)}, "HCP-Diffusion"),
        ({"base_model.model.to_q.vera_lambda_b": (4,)}, "VeRA"),
        ({"base_model.model.to_q.lora_E": (4, 1)}, "AdaLoRA"),
        ({"base_model.model.to_q.ia3_l": (320, 1)}, "IA3"),
        ({"base_model.model.to_q.oft_R.weight": (4, 6)}, "OFT"),
        ({"clip_l": (2, 768), "clip_g": (2, 1280)}, "textual inversion"),
        ({"string_to_param.*": (2, 768)}, "textual inversion"),
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
    assert (lora.family, lora.base, lora.rank) == ("SD 1.x", "sd15", (2, 3))


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"ss_base_model_version": "sd_v2_v"}, r"SD 2\.x, its header says"),
        ({"ss_v2": "True"}, r"SD 2\.x"),
        ({"ss_base_model_version": "sdxl_base_v1-0"}, "SDXL"),
        ({"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}, "SDXL"),
        ({"modelspec.architecture": "flux-1-dev/lora"}, "FLUX"),
        ({"ss_base_model_version": "sd_v1", "ss_v2": "False"}, None),
        ({"ss_base_model_version": "\x1b[2J", "modelspec.architecture": ""}, None),
    ],
)
@pytest.mark.parametrize("leaf", ["attn1_to_q", "attn2_to_k"])
def test_the_header_decides_where_the_widths_do_not(
    metadata: dict, words: str | None, leaf: str, tmp_path: Path
) -> None:
    name, inputs = f"lora_unet_{BLOCK}_{leaf}", 640 if "attn1" in leaf else 768
    tensors = {"lora_down.weight": (4, inputs), "lora_up.weight": (640, 4)}
    path = tmp_path / "x.safetensors"
    save_file({f"{name}.{key}": np.ones(shape, np.float32) for key, shape in tensors.items()}, path, metadata)
    if words is None or leaf == "attn2_to_k":
        assert load_lora(path).base == "sd15"
    else:
        with pytest.raises(NotScannable, match=f"a LoRA for {words}"):
            load_lora(path)


def test_projections_without_a_kernel_are_no_evidence_for_sd1(tmp_path: Path) -> None:
    """SD 2.x and SDXL have linear layers there; beside cross-attention of SD 1.x any shape will do."""
    project = (f"lora_unet_{BLOCK[:26]}_proj_in", (4, 640), (640, 4))
    cross = (f"lora_unet_{BLOCK}_attn2_to_k", (4, 768), (640, 4))
    with pytest.raises(NotScannable, match=r"LoRA for SD 2\.x or SDXL \(its proj_in is a linear layer\)"):
        load_lora(write(tmp_path / "x.safetensors", project))
    assert len(load_lora(write(tmp_path / "x.safetensors", project, cross)).factors) == 2
    kernels = (project[0], (4, 640, 1, 1), (640, 4, 1, 1))
    assert len(load_lora(write(tmp_path / "x.safetensors", kernels)).factors) == 1


@pytest.mark.parametrize(
    ("channels", "words"),
    [
        (9, r"SD 1\.x inpainting"),
        (8, "InstructPix2Pix, or a control LoRA"),
        (5, "5 input channels"),
        (16, "16 input"),
    ],
)
def test_bases_with_more_inputs(channels: int, words: str, tmp_path: Path) -> None:
    wide = ("lora_unet_conv_in", (4, channels, 3, 3), (320, 4, 1, 1))
    with pytest.raises(NotScannable, match=words):
        load_lora(write(tmp_path / "x.safetensors", wide))


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

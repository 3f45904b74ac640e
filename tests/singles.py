"""Checkpoints in a single file: small ones, whose configuration stands in for SD 1.x's, and sparse ones."""

import json
import math
from functools import cache
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from benchmarks.tables import sd14_shape
from benchmarks.tables.ldm_file import ldm_tensors
from tests.tiny import tiny_base

POSITIONS = "cond_stage_model.transformer.text_model.embeddings.position_ids"
SIZES = {torch.float16: ("F16", 2), torch.float32: ("F32", 4), torch.int64: ("I64", 8)}


def use_configs(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let a single file be one of the pipeline in `folder`."""
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(str(folder), subfolder="tokenizer")
    monkeypatch.setattr("loraudit.base.single.configs", lambda: folder)
    monkeypatch.setattr("loraudit.base.load.clip_tokenizer", lambda: tokenizer)


def tiny_tensors() -> dict[str, torch.Tensor]:
    """That pipeline's weights as an A1111 checkpoint has them, with what real ones hold beside."""
    base = tiny_base()
    tensors = ldm_tensors(base.unet, base.vae, base.text_encoder)
    length = base.embedding_shape[0]
    return tensors | {POSITIONS: torch.arange(length)[None], "betas": torch.zeros(1000)}


def write_tiny(path: Path, dtype: torch.dtype = torch.float32) -> Path:
    save_file({k: v.to(dtype) if v.is_floating_point() else v for k, v in tiny_tensors().items()}, path)
    return path


def sd15_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of an SD 1.5 checkpoint, without any weight."""
    return dict(_sd15_shapes())


@cache
def _sd15_shapes() -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        unet, vae = UNet2DConditionModel(**sd14_shape.UNET), AutoencoderKL(**sd14_shape.VAE)
        text = CLIPTextModel(CLIPTextConfig(**sd14_shape.TEXT))
    return {key: tuple(value.shape) for key, value in ldm_tensors(unet, vae, text).items()}


def write_sparse(path: Path, shapes: dict[str, tuple[int, ...]], dtype: torch.dtype = torch.float16) -> Path:
    """Write a header of these tensors, and a hole in place of their values."""
    name, size = SIZES[dtype]
    header, end = {}, 0
    for key, shape in shapes.items():
        begin, end = end, end + size * math.prod(shape)
        header[key] = {"dtype": name, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return path

"""A scan on Stable Diffusion 1.4 at full size, with random weights: exit code, time and memory.

    python -m benchmarks.tables.sd14_shape runs/sd14

Writes a pipeline folder with SD-1.4's configuration (CompVis/stable-diffusion-v1-4: `unet`, `vae` and
`text_encoder/config.json`) and CLIP's real vocabulary, a LoRA with the paper's targets and rank, and an
untrained encoder for that LoRA. Then a process of its own scans the LoRA. Weights are random, so the pictures
show nothing; time and memory do not depend on weights.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from loraudit.base.load import load_base
from loraudit.base.vocabulary import LENGTH, clip_tokenizer
from loraudit.encoder import save_encoder
from loraudit.lora import write_diffusers
from loraudit.training.finetune import PAPER, new_adapters
from loraudit.training.train_encoder import new_encoder

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TEXT", "UNET", "VAE", "write_lora_and_encoder", "write_pipeline"]

UNET: Final[Mapping[str, Any]] = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "attention_head_dim": 8,  # the number of heads, by diffusers' historical name
    "cross_attention_dim": 768,
}
"""Configuration of 859,520,964 parameters; every other field is diffusers' default, as in SD-1.4."""
VAE: Final[Mapping[str, Any]] = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "sample_size": 512,
}
TEXT: Final[Mapping[str, Any]] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "quick_gelu",
}


def write_pipeline(
    folder: Path,
    unet: Mapping[str, Any] = UNET,
    vae: Mapping[str, Any] = VAE,
    text: Mapping[str, Any] = TEXT,
) -> None:
    """Write a diffusers folder of these shapes, float32 as on the Hub, one part in memory at a time."""
    torch.manual_seed(0)
    UNet2DConditionModel(**unet).save_pretrained(folder / "unet")
    AutoencoderKL(**vae).save_pretrained(folder / "vae")
    config = CLIPTextConfig(**text, max_position_embeddings=LENGTH, bos_token_id=49406, eos_token_id=49407)
    CLIPTextModel(config).save_pretrained(folder / "text_encoder")
    clip_tokenizer().save_pretrained(folder / "tokenizer")


def write_lora_and_encoder(folder: Path) -> None:
    """Write `lora.safetensors` and `encoder/`, the paper's and untrained, for the pipeline in `pipeline/`."""
    base = load_base(str(folder / "pipeline"))
    adapters = new_adapters(base, PAPER, [0])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for up in adapters.up.values():
            up.data.normal_(std=0.02)
        write_diffusers(adapters.factors(0), folder / "lora.safetensors", {"ss_steps": "1000"})
    encoder = new_encoder(base, adapters.terms(), timestep=True, max_steps=PAPER.steps, seed=0)
    save_encoder(folder / "encoder", encoder, encoder.frozen, base="sd14")


def _scan(folder: Path, samples: int, steps: int) -> dict[str, object]:
    command = [
        sys.executable, "-m", "loraudit", "scan", str(folder / "lora.safetensors"),
        "--base", str(folder / "pipeline"), "--encoder", str(folder / "encoder"),
        "--samples", str(samples), "--steps", str(steps), "--offline", "--device", "cpu",
        "-o", str(folder / "report.txt"), "--save-images", str(folder / "pictures"),
    ]  # fmt: skip
    start = time.perf_counter()
    child = subprocess.Popen(command)  # noqa: S603
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    # Linux counts in KiB, macOS in bytes.
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "exit code": os.waitstatus_to_exitcode(status),
        "seconds": round(seconds, 1),
        "peak GiB": round(peak / 2**30, 2),
    }


def _write(folder: Path) -> None:
    write_pipeline(folder / "pipeline")
    write_lora_and_encoder(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--steps", type=int, default=2)
    options = parser.parse_args()
    if not (options.folder / "encoder" / "config.json").exists():
        # In a process of its own: the peak of a child begins with what its parent holds.
        writer = multiprocessing.get_context("spawn").Process(target=_write, args=(options.folder,))
        writer.start()
        writer.join()
    print(json.dumps(_scan(options.folder, options.samples, options.steps)))

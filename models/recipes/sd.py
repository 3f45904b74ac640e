"""Train the UNet of `tiny-sd`, Stable Diffusion 1.4 in miniature, on synthetic people.

    python -m models.recipes.sd --data runs/people --minutes 60

The VAE (`vae.py`) and the text tower (`clip.py`) come first and stay frozen, as in SD. Latents and
caption embeddings are computed once into the run folder. The loss is the usual epsilon-prediction MSE,
weighted by min(SNR, 5) / SNR (arXiv 2303.09556, equation 4 for epsilon), over SD's scaled-linear noise
schedule; one caption in ten is empty, for classifier-free guidance (arXiv 2207.12598). The weights kept are
an exponential moving average.

A base whose text does not steer looks healthy in its loss and is useless for everything here, so `text_gap`
is logged all along: the mean squared change of the noise prediction when the captions of a batch are
rotated by one, relative to the prediction's own mean square.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextModel, CLIPTokenizer

from loraudit.base.schedule import SCHEDULE, signal_variance
from loraudit.cli.console import say
from loraudit.files import replacing
from loraudit.people.captions import caption
from loraudit.people.identity import identity, nuisance
from loraudit.training.runs import Training
from models.recipes.dataset import open_dataset
from models.recipes.muon import optimizers
from models.recipes.vae import to_tensor

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["export", "new_unet", "prepare", "train"]

SNR_CAP: Final = 5.0
"""Cap of the signal-to-noise ratio in the loss weights."""
DROP_CAPTION: Final = 0.1
"""Share of empty captions."""
EMA: Final = 0.998
"""Decay of the moving average of the weights."""


def new_unet(cross_attention_dim: int) -> UNet2DConditionModel:
    """Start the untrained UNet: SD-1.4's block pattern with its first and third level only.

    As in SD-1.4, every level but the coarsest attends to text: 8x8 and 4x4, and not 2x2.
    """
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=8,
        out_channels=8,
        block_out_channels=(64, 96, 128),
        layers_per_block=1,
        norm_num_groups=16,
        attention_head_dim=4,  # SD's historical name for the number of heads
        cross_attention_dim=cross_attention_dim,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    )


@torch.no_grad()
def prepare(data: Path, sd: Path, run_folder: Path, seed: int) -> None:
    """Write, once, `latents.npy` float16 `[N, 8, 8, 8]` and `captions.npy` float16 `[N, L, d]`."""
    pictures = open_dataset(data)
    count = len(pictures.pixels)
    run_folder.mkdir(parents=True, exist_ok=True)
    done = run_folder / "prepared.json"
    if done.exists():
        return
    vae = AutoencoderKL.from_pretrained(sd / "vae", torch_dtype=torch.float32).eval()
    latents = np.lib.format.open_memmap(run_folder / "latents.npy", "w+", np.float16, (count, 8, 8, 8))
    for start in range(0, count, 256):
        x = to_tensor(pictures.pixels[start : start + 256]).contiguous(memory_format=torch.channels_last)
        mean = vae.encode(x).latent_dist.mean * vae.config.scaling_factor
        latents[start : start + 256] = mean.numpy()
    latents.flush()
    say("latents done")
    encode_captions(data, sd, run_folder, seed)
    done.write_text(json.dumps({"pictures": count, "seed": seed}) + "\n")


@torch.no_grad()
def encode_captions(data: Path, sd: Path, run_folder: Path, seed: int) -> None:
    """Encode one caption per picture, the half of `prepare` that needs no VAE."""
    pictures = open_dataset(data)
    path = run_folder / "captions.npy"
    if path.exists():
        return
    tokenizer = CLIPTokenizer.from_pretrained(sd / "tokenizer")
    tower = CLIPTextModel.from_pretrained(sd / "text_encoder", dtype=torch.float32).eval()
    length, width = tower.config.max_position_embeddings, tower.config.hidden_size
    with replacing(path) as (temporary,):
        table = np.lib.format.open_memmap(temporary, "w+", np.float16, (len(pictures.pixels), length, width))
        for start in range(0, len(table), 256):
            texts = []
            for i in range(start, min(start + 256, len(table))):
                who, shot = int(pictures.identity_seeds[i]), int(pictures.picture_seeds[i])
                texts.append(caption(identity(who), nuisance(who, shot), np.random.default_rng([seed, i])))
            table[start : start + 256] = _encode(tokenizer, tower, texts).numpy()
        table.flush()
    say("captions done")


def _encode(tokenizer: CLIPTokenizer, tower: CLIPTextModel, texts: list[str]) -> Tensor:
    ids = tokenizer(
        texts,
        padding="max_length",
        max_length=tower.config.max_position_embeddings,
        truncation=True,
        return_tensors="pt",
    ).input_ids
    embedding: Tensor = tower(ids).last_hidden_state
    return embedding


def train(
    data: Path,
    sd: Path,
    run_folder: Path,
    minutes: float,
    batch: int,
    lr: float,
    seed: int,
    max_steps: int | None = None,
) -> None:
    """Train for `minutes` over all resumes, and write the averaged UNet to `sd/unet`."""
    prepare(data, sd, run_folder, seed)
    latents = np.load(run_folder / "latents.npy", mmap_mode="r")
    captions = np.load(run_folder / "captions.npy", mmap_mode="r")
    tokenizer = CLIPTokenizer.from_pretrained(sd / "tokenizer")
    tower = CLIPTextModel.from_pretrained(sd / "text_encoder", dtype=torch.float32).eval()
    with torch.no_grad():
        empty = _encode(tokenizer, tower, [""])
    torch.manual_seed(seed)
    unet = new_unet(captions.shape[-1])
    average = {name: p.detach().clone() for name, p in unet.named_parameters()}
    pair = optimizers(unet, lr, weight_decay=0.0)
    signal = signal_variance()
    run = Training(
        run_folder,
        {
            "data": data,
            "minutes": minutes,
            "batch": batch,
            "lr": lr,
            "seed": seed,
            "snr_cap": SNR_CAP,
            "drop_caption": DROP_CAPTION,
            "ema": EMA,
        },
        say=say,
    )
    step, recent = 0, []
    if state := run.load():
        unet.load_state_dict(state["model"])
        for optimizer, saved in zip(pair, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        average, step = state["average"], state["step"]
    while run.seconds < 60 * minutes and step != max_steps:
        progress = min(run.seconds / (60 * minutes), 1.0)
        rate = lr * min(1.0, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * progress)) + 1e-5
        for group in (group for optimizer in pair for group in optimizer.param_groups):
            group["lr"] = rate
        rng = np.random.default_rng([seed, 1, step])
        index = np.sort(rng.choice(len(latents), batch, replace=False))
        x = torch.from_numpy(latents[index]).float()
        c = torch.from_numpy(captions[index]).float()
        c[torch.from_numpy(rng.random(batch) < DROP_CAPTION)] = empty
        # One time per stratum of 1000 / batch steps: the loss of a batch then varies far less.
        t = torch.from_numpy(
            ((np.arange(batch) + rng.random(batch)) / batch * 1000).astype(np.int64)[rng.permutation(batch)]
        )
        noise = torch.from_numpy(rng.standard_normal(x.shape, np.float32))
        a = signal[t][:, None, None, None]
        snr = (a / (1 - a)).flatten()
        prediction = unet(a.sqrt() * x + (1 - a).sqrt() * noise, t, c).sample
        error = (prediction - noise).pow(2).mean((1, 2, 3))
        (error * snr.clamp(max=SNR_CAP) / snr).mean().backward()
        for optimizer in pair:
            optimizer.step()
        unet.zero_grad(set_to_none=True)
        step += 1
        decay = min(EMA, step / (step + 9))
        with torch.no_grad():
            for name, p in unet.named_parameters():
                average[name].lerp_(p, 1 - decay)
        recent.append(error.detach().mean().item())
        if step % 50 == 0:
            with torch.no_grad():
                other = unet(a.sqrt() * x + (1 - a).sqrt() * noise, t, c.roll(1, 0)).sample
            gap = (other - prediction.detach()).pow(2).mean() / prediction.detach().pow(2).mean()
            run.log(step, loss=float(np.mean(recent)), text_gap=gap.item(), lr=rate)
            recent = []
        if step % 250 == 0:
            run.save(
                {
                    "model": unet.state_dict(),
                    "optimizers": [o.state_dict() for o in pair],
                    "average": average,
                    "step": step,
                }
            )
    run.save(
        {
            "model": unet.state_dict(),
            "optimizers": [o.state_dict() for o in pair],
            "average": average,
            "step": step,
        }
    )
    export(run_folder, sd)


def export(run_folder: Path, sd: Path) -> None:
    """Write the averaged UNet of a checkpoint, and make `sd` a complete pipeline folder in float16."""
    state = torch.load(run_folder / "checkpoint.pt", weights_only=True)
    tower = CLIPTextModel.from_pretrained(sd / "text_encoder", dtype=torch.float32)
    unet = new_unet(tower.config.hidden_size)
    unet.load_state_dict(state["average"])
    shutil.rmtree(sd / "unet", ignore_errors=True)
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(sd / "vae", torch_dtype=torch.float32),
        text_encoder=tower,
        tokenizer=CLIPTokenizer.from_pretrained(sd / "tokenizer"),
        unet=unet,
        scheduler=DPMSolverMultistepScheduler(**SCHEDULE, algorithm_type="dpmsolver++", steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(sd)
    # transformers loads the dtype of the config, diffusers float32: stock loading would mix the two.
    config = sd / "text_encoder" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": "float32"}, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("runs/people"))
    parser.add_argument("--sd", type=Path, default=Path("models/tiny-sd"))
    parser.add_argument("--run", type=Path, default=Path("runs/tiny-sd"))
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    train(options.data, options.sd, options.run, options.minutes, options.batch, options.lr, options.seed)

"""Train the VAE of `tiny-sd`: 64x64 pictures to 8x8 latents, the factor 8 of Stable Diffusion.

    python -m models.recipes.vae --data runs/people --out models/tiny-sd/vae --minutes 25

The loss is L1 on pixels in -1..1, plus L1 on their horizontal and vertical differences, since edges carry
identity at this size. A KL term to the unit Gaussian has the light weight of latent diffusion (arXiv
2112.10752, appendix G: 1e-6).
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from diffusers import AutoencoderKL

from loraudit.cli.console import say
from loraudit.training.runs import Training
from models.recipes.dataset import open_dataset
from models.recipes.muon import optimizers

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["new_vae", "reconstruction_loss", "to_tensor", "train"]

KL_WEIGHT = 1e-6
"""Weight of the KL term in the loss."""


def new_vae() -> AutoencoderKL:
    """Start the untrained VAE: SD-1.4's four levels, hence a factor of 8, and 8 latent channels.

    The posterior starts narrow (log-variance -6): with the usual start at 0 the first thousand steps only
    learn to shrink the latent noise.
    """
    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=8,
        block_out_channels=(8, 16, 48, 96),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        sample_size=64,
    )
    with torch.no_grad():
        vae.quant_conv.weight[8:] *= 0.1
        vae.quant_conv.bias[8:] = -6.0
    return vae


def to_tensor(pixels: np.ndarray) -> Tensor:
    """Turn pixels uint8 `[N, H, W, 3]` into float `[N, 3, H, W]` in -1..1."""
    return torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1


def reconstruction_loss(output: Tensor, target: Tensor) -> Tensor:
    """Compute L1 of pixels plus L1 of neighbour differences, for pictures `[N, 3, H, W]` in -1..1."""
    error = output - target
    edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    return error.abs().mean() + edges


def train(
    data: Path,
    out: Path,
    run_folder: Path,
    minutes: float,
    batch: int,
    lr: float,
    seed: int,
    max_steps: int | None = None,
) -> None:
    """Train for `minutes`, then write the VAE (with its measured `scaling_factor`) to `out`."""
    torch.manual_seed(seed)
    pictures = open_dataset(data)
    vae = new_vae().to(memory_format=torch.channels_last)
    pair = optimizers(vae, lr, weight_decay=0.0)
    run = Training(
        run_folder,
        {"data": data, "minutes": minutes, "batch": batch, "lr": lr, "seed": seed, "kl": KL_WEIGHT},
        say=say,
    )
    step = 0
    if state := run.load():
        vae.load_state_dict(state["model"])
        for optimizer, saved in zip(pair, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        step = state["step"]
    while run.seconds < 60 * minutes and step != max_steps:
        # The rate follows the clock, since on a shared machine nobody knows the number of steps beforehand.
        progress = min(run.seconds / (60 * minutes), 1.0)
        for group in (group for optimizer in pair for group in optimizer.param_groups):
            group["lr"] = lr * min(1.0, (step + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * progress)) + 1e-5
        rng = np.random.default_rng([seed, step])
        index = np.sort(rng.choice(len(pictures.pixels), batch, replace=False))
        x = to_tensor(pictures.pixels[index]).contiguous(memory_format=torch.channels_last)
        posterior = vae.encode(x).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(step))
        recon = vae.decode(posterior.mean + posterior.std * noise).sample
        loss = reconstruction_loss(recon, x) + KL_WEIGHT * posterior.kl().mean()
        vae.zero_grad(set_to_none=True)
        loss.backward()
        for optimizer in pair:
            optimizer.step()
        step += 1
        if step % 100 == 0:
            mse = (recon - x).detach().pow(2).mean().item()
            run.log(step, loss=loss.item(), psnr=10 * math.log10(4 / mse), std=posterior.mean.std().item())
        if step % 500 == 0:
            run.save(
                {
                    "model": vae.state_dict(),
                    "optimizers": [optimizer.state_dict() for optimizer in pair],
                    "step": step,
                }
            )
    run.save(
        {
            "model": vae.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in pair],
            "step": step,
        }
    )
    vae.eval().requires_grad_(False)
    index = np.sort(
        np.random.default_rng(seed).choice(
            len(pictures.pixels), min(1024, len(pictures.pixels)), replace=False
        )
    )
    latents = torch.cat(
        [vae.encode(to_tensor(pictures.pixels[i])).latent_dist.mean for i in np.array_split(index, 16)]
    )
    vae.register_to_config(scaling_factor=float(1 / latents.std()))
    vae.save_pretrained(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("runs/people"))
    parser.add_argument("--out", type=Path, default=Path("models/tiny-sd/vae"))
    parser.add_argument("--run", type=Path, default=Path("runs/tiny-vae"))
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    train(options.data, options.out, options.run, options.minutes, options.batch, options.lr, options.seed)

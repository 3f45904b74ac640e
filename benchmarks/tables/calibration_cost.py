"""Hours in which Stable Diffusion 1.x makes its own calibration, counted at full size over published rates.

    python -m benchmarks.tables.calibration_cost

Pictures, samples and evaluations are counted by the code that makes them, on a base without memory. Rates of
evaluations are those that diffusers published for torch 2.0 at 512 pixels, batch 4. Fine-tuning in float32 is
assumed to reach half of the peak of the data sheets, at 1.67 TFLOP a sample (`benchmarks.training_cost`).
"""

import argparse
from pathlib import Path
from typing import Final

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from benchmarks.tables.sd14_shape import TEXT, UNET, VAE
from loraudit.attacks.encoder import Encoders
from loraudit.attacks.kit import Kit
from loraudit.attacks.plan import plan_for
from loraudit.attacks.table import ATTACKS, names_at
from loraudit.audit.calibrate_loras import Making
from loraudit.audit.calibrate_work import Rates, Work, work_of
from loraudit.audit.setup import Setup
from loraudit.base.model import Base
from loraudit.base.schedule import signal_variance
from loraudit.base.vocabulary import clip_tokenizer
from loraudit.cards import base_card
from loraudit.cli.failures import in_one_line
from loraudit.scores import FaceEmbeddings
from loraudit.training.control_plans import Sizes
from loraudit.training.defaults import base_recipe

__all__ = ["main", "work_at_full_size"]

GPUS: Final = {"T4": (14.3, 8.1), "3090": (51.7, 35.6), "4090": (101.0, 82.6), "A100": (92.8, 19.5)}
"""GPU -> evaluations a second in float16, peak TFLOP/s in float32."""
SAMPLE: Final = 1.67
"""TFLOP of a sample forward and backward."""
REACHED: Final = 0.5
"""Share of the peak that fine-tuning is assumed to reach."""
LOOK: Final = 0.1
"""Seconds for a look of the face model, on a CPU core."""


class _Nobody:
    """Face model that is asked for nothing."""

    name, threshold, far, threshold_from = "none", 1.0, 0.0, ""

    def embed(self, images: torch.Tensor) -> FaceEmbeddings:
        """Find no face."""
        return FaceEmbeddings(torch.zeros(len(images), 1), (False,) * len(images))


def work_at_full_size(sizes: Sizes | None = None) -> Work:
    """Count the work of a calibration of SD 1.5 by a standard scan's attacks."""
    card = base_card("sd15")
    with torch.device("meta"):
        parts = UNet2DConditionModel(**UNET), AutoencoderKL(**VAE), CLIPTextModel(CLIPTextConfig(**TEXT))
    base = Base(card.name, *parts, clip_tokenizer(), signal_variance(), listed=card)
    kit = Kit(base, Encoders(base, card.name, None), face=_Nobody(), likeness=True)
    rows = [row for row in ATTACKS if row.name in names_at("standard")]
    attacks = [row.open(kit) for row in rows if not (row.needs_encoder or row.needs_photos)]
    setup = Setup(base, tuple(attacks))  # type: ignore[arg-type]
    making = Making(Path("never written"), sizes or Sizes(), base_recipe(base))
    return work_of(making, setup, plan_for(card, 16, None, 0))


def main(arguments: list[str] | None = None) -> None:
    """Parse the arguments, and print the counts and the hours of each GPU."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args(arguments)
    work = work_at_full_size()
    print(work)
    for name, (evaluations, peak) in GPUS.items():
        rates = Rates(1 / evaluations, LOOK, SAMPLE / (REACHED * peak))
        hours = {stage: seconds / 3600 for stage, seconds in work.seconds(rates).items()}
        told = ", ".join(f"{stage} {spent:.1f}" for stage, spent in hours.items())
        print(f"{name}: {told}, in all {sum(hours.values()):.1f} h")


if __name__ == "__main__":
    in_one_line(main)

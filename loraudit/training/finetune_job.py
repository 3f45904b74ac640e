"""The job behind `loraudit finetune`, from parsed options to a LoRA file."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from loraudit.errors import LorauditError
from loraudit.lora.export import LAYOUTS
from loraudit.lora.matrices import Factors
from loraudit.people.folders import image_files
from loraudit.people.sources import read_image
from loraudit.runs import OnStep, unheard
from loraudit.training.defaults import base_recipe, prior_latents, training_base
from loraudit.training.finetune import Recipe, Subject, finetune

__all__ = ["FinetuneJob", "Made", "finetune_images"]


@dataclass(frozen=True)
class FinetuneJob:
    """Request of `finetune`."""

    images: Sequence[Path]
    """Picture files of one person, or folders of such files."""
    output: Path
    layout: str
    """`diffusers`, `kohya` or `peft`; `output` is a folder for peft."""
    recipe: Mapping[str, Any]
    """Changes to the base's recipe."""
    prompt: str
    seed: int


@dataclass(frozen=True)
class Made:
    """Result of a fine-tuning: the LoRA that was written."""

    output: Path
    size_bytes: int
    """Bytes of the file, or of all files in the folder."""
    modules: int
    rank: int
    steps: int


def finetune_images(
    base_name: str, device: str | None, offline: bool, job: FinetuneJob, on_step: OnStep = unheard
) -> Made:
    """Fine-tune on the images of `job` and write the LoRA; `on_step` hears class pictures, then updates.

    The caller has checked base, targets and output (`loraudit.training.checks`). Raises `LorauditError`
    before the base is loaded if a number of the recipe is out of range or an image cannot be read.
    """
    Recipe(**job.recipe)
    files = [file for path in job.images for file in (image_files(path) if path.is_dir() else [path])]
    if not files:
        raise LorauditError("there are no images in the folder", "give images, or a folder of images")
    for file in files:
        read_image(file, 1)
    base = training_base(base_name, device, offline)
    recipe = dataclasses.replace(base_recipe(base), **job.recipe)
    latents = base.encode_images(torch.stack([read_image(file, base.image_size) for file in files]))
    prior = prior_latents(base, recipe, on_step)
    factors: dict[str, Factors] = {}
    for step, adapters, _loss in finetune(base, [Subject(latents, job.prompt, job.seed)], recipe, prior):
        on_step(step, recipe.steps, "fine-tuning")
        if step == recipe.steps:
            factors = adapters.factors(0)
    LAYOUTS[job.layout](factors, job.output)
    written = sorted(job.output.glob("**/*")) if job.output.is_dir() else [job.output]
    size = sum(file.stat().st_size for file in written if file.is_file())
    return Made(job.output, size, len(factors), recipe.rank, recipe.steps)

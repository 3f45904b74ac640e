"""What `loraudit finetune` does, once its options are parsed."""

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from loraudit.base.model import Base
from loraudit.cli.progress import progress
from loraudit.errors import LorauditError
from loraudit.lora.matrices import Factors
from loraudit.lora.write import write_diffusers, write_kohya, write_peft
from loraudit.people.folders import image_files
from loraudit.people.sources import read_image
from loraudit.text import clean
from loraudit.training.defaults import base_recipe, prior_latents
from loraudit.training.finetune import Subject, finetune

__all__ = ["check_output", "finetune_images"]


def finetune_images(
    base: Base,
    images: Sequence[Path],
    output: Path,
    layout: str,
    recipe: Mapping[str, Any],
    prompt: str,
    seed: int,
    force: bool,
) -> None:
    """Fine-tune on `images` (files, or folders of files) and write the LoRA to `output`.

    Raises `LorauditError` if an image cannot be read, or `output` exists and `force` is not set.
    """
    files = [file for path in images for file in (image_files(path) if path.is_dir() else [path])]
    if not files:
        raise LorauditError("there are no images in the folder", "give images, or a folder with images in it")
    check_output(output, layout, force)
    chosen = dataclasses.replace(base_recipe(base), **recipe)
    latents = base.encode_images(torch.stack([read_image(file, base.image_size) for file in files]))
    prior = prior_latents(base, chosen)
    factors: dict[str, Factors] = {}
    with progress("fine-tuning") as report:
        for step, adapters, _loss in finetune(base, [Subject(latents, prompt, seed)], chosen, prior):
            report(step, chosen.steps)
            if step == chosen.steps:
                factors = adapters.factors(0)
    if layout == "peft":
        _write_folder(factors, output)
    else:
        (write_kohya if layout == "kohya" else write_diffusers)(factors, output)


def check_output(output: Path, layout: str, force: bool) -> None:
    """Raise `LorauditError` if `output` cannot be written, before hours go into what belongs there."""
    shown = clean(str(output), 300)
    if not output.absolute().parent.is_dir():
        raise LorauditError(
            f"there is no folder for {shown}", "make it first, or choose another path with -o"
        )
    if output.exists() and output.is_dir() != (layout == "peft"):
        raise LorauditError(
            f"{shown} is a {'folder' if output.is_dir() else 'file'}", "choose another path with -o"
        )
    if output.exists() and not force:
        raise LorauditError(f"{shown} exists already", "choose another path with -o, or give --force")


def _write_folder(factors: Mapping[str, Factors], output: Path) -> None:
    """A peft folder, all of it or nothing; into a folder that exists, file by file."""
    if output.exists():
        write_peft(factors, output)
        return
    partial = output.with_name(f".{output.name}.partial")
    try:
        write_peft(factors, partial)
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)

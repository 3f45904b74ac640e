"""Latents of class pictures, kept in loraudit's cache folder from one training to the next.

The 200 class pictures of SD 1.x take 10,000 evaluations, three times the arithmetic of the fine-tuning
itself. The base draws them from a prompt that names nobody, so they are the same for every person.

A file is named by the SHA-256 of all that decides its numbers, and has the SHA-256 of its bytes beside it. A
file without that hash, with another one or of another shape is drawn again.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from loraudit.base.model import Base, Sampling
from loraudit.cards import PRIOR_FOLDER, cache_folder
from loraudit.files import read_within, replacing
from loraudit.training.finetune import Recipe

__all__ = ["kept_latents"]

_VERSION: Final = 1
"""Raised whenever the same settings make other latents."""
_LATENTS: Final = "latents"
_HEADER: Final = 10_000
"""Bytes of a file beyond its numbers, at most."""


def kept_latents(base: Base, recipe: Recipe, sampling: Sampling, draw: Callable[[], Tensor]) -> Tensor:
    """Return the latents float32 `[N, C, h, w]` of the recipe's class pictures, on the base's device.

    They come from the cache folder, or from `draw` and are put there. The results of a CPU and of a GPU
    differ by rounding and are kept apart. A base without a fingerprint, and a cache that cannot be written,
    keep nothing.
    """
    if base.fingerprint is None:
        return draw()
    shape = (recipe.class_images, *base.latent_shape)
    decides = {
        "version": _VERSION,
        "base": base.fingerprint,
        "prompt": recipe.class_prompt,
        "sampling": dataclasses.asdict(sampling),
        "shape": shape,
        "device": base.device.type,
        "dtype": str(base.dtype),
    }
    name = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
    path = cache_folder() / PRIOR_FOLDER / f"{name}.safetensors"
    found = _read(path, shape)
    if found is None:
        # In the layout of a file, or the first training would round in another order than the next.
        found = draw().float().contiguous()
        _keep(path, found)
    return found.to(base.device)


def _read(path: Path, shape: tuple[int, ...]) -> Tensor | None:
    """Read latents of `shape`; None if there are none, or they differ from their hash."""
    numbers = torch.Size(shape).numel()
    try:
        data = read_within(path, 4 * numbers + _HEADER)
        said = read_within(_record(path), 100).decode("ascii").strip()
        if hashlib.sha256(data).hexdigest() != said:
            return None
        latents = load(data).get(_LATENTS)
    except (OSError, UnicodeDecodeError, SafetensorError):
        return None
    sound = latents is not None and latents.shape == shape and latents.dtype == torch.float32
    return latents if sound else None


def _keep(path: Path, latents: Tensor) -> None:
    data = save({_LATENTS: latents.cpu()})
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, _record(path)) as (file, record):
            file.write_bytes(data)
            record.write_text(f"{hashlib.sha256(data).hexdigest()}\n", encoding="ascii")


def _record(path: Path) -> Path:
    return path.with_suffix(".sha256")

"""The number of samples that go through a base at once: one rule, and all of its numbers.

Memory and time of a pass grow with the positions of its latents, `h * w` each. A picture of 64 pixels has 64
positions, a picture of 512 pixels 4096.

A number is a guess. Where memory runs out all the same, `Pass` halves it and goes on.
"""

import gc
from collections.abc import Callable
from typing import Final, TypeVar

import torch
from torch import Tensor

from loraudit.base.memory import free_memory, is_out_of_memory

__all__ = [
    "CLASS_PICTURES",
    "DECODED",
    "DECODED_PICTURES",
    "DIFFERENTIATED",
    "KEEPS_BUSY",
    "PREDICTED",
    "Pass",
    "pass_bytes",
    "pictures_a_pass",
    "samples_a_pass",
]

DIFFERENTIATED: Final = 16 * 64
"""Positions of a pass with gradients; a single sample of 512 pixels."""
PREDICTED: Final = 4 * 4096
"""Positions of a pass without gradients; four samples of 512 pixels, about 5 GB with SD 1.x's weights."""
GUIDED: Final = 8 * 4096
"""Positions of a pass of pictures on a GPU, at most; eight pictures of 512 pixels, those of a first look."""
_A_POSITION: Final = 2 * 16 * 2**10
"""Bytes of activations a position of a picture and byte of the type, generously.

Counted at SD 1.x's shapes: 65 MiB a sample of 512 pixels in float16, two samples a picture. Twice that leaves
room for what kernels take beside.
"""
_TAKEN: Final = 0.8
"""Share of the free memory that a pass may take."""
KEEPS_BUSY: Final = 16 * 64
"""Positions of a pass that keep a CPU busy; more make no picture faster."""
DECODED: Final = 4096
"""Positions that the autoencoder takes at once; one picture of 512 pixels has the largest activations."""
DECODED_PICTURES: Final = 64
"""Pictures that the autoencoder takes at once, at most."""
CLASS_PICTURES: Final = 32
"""Pictures that are sampled for prior preservation at once, at most."""


def samples_a_pass(latent_shape: tuple[int, int, int], positions: int, most: int | None = None) -> int:
    """Count the latents `(C, h, w)` that fill `positions`: at least 1, and at most `most`."""
    _, height, width = latent_shape
    fitting = max(1, positions // (height * width))
    return fitting if most is None else min(fitting, most)


def pictures_a_pass(latent_shape: tuple[int, int, int], device: torch.device, dtype: torch.dtype) -> int:
    """Count the pictures of guided sampling to make at once.

    As many as keep a CPU busy; on a GPU as many as its free memory allows, and at most `GUIDED`.
    """
    if device.type == "cpu":
        return samples_a_pass(latent_shape, KEEPS_BUSY)
    free = free_memory(device)
    fitting = GUIDED if free is None else int(_TAKEN * free) // (_A_POSITION * dtype.itemsize)
    return samples_a_pass(latent_shape, min(GUIDED, fitting))


def pass_bytes(latent_shape: tuple[int, int, int], pictures: int, dtype: torch.dtype) -> int:
    """Estimate the bytes of activations of a pass of `pictures`, with guidance."""
    _, height, width = latent_shape
    return pictures * height * width * _A_POSITION * dtype.itemsize


_Numbers = TypeVar("_Numbers", tuple[int, ...], range)
"""Seeds, or numbers of samples."""


class Pass:
    """Number of samples that go through a model at once, halved for good where memory runs out."""

    def __init__(self, samples: int) -> None:
        """Begin with so many `samples`, at least 1."""
        self.samples = samples

    def over(self, samples: _Numbers, run: Callable[[_Numbers], Tensor]) -> Tensor:
        """Join what `run` makes of all `samples`, at least one, part by part.

        The result does not depend on the parts if that of a sample does not. Raises the error of torch or
        Python where the memory does not suffice for a single sample.
        """
        found: list[Tensor] = []
        start = 0
        while start < len(samples):
            part = samples[start : start + self.samples]
            try:
                found.append(run(part))
            except (MemoryError, RuntimeError) as error:
                if len(part) == 1 or not is_out_of_memory(error):
                    raise
            else:
                start += len(part)
                continue
            # Out of the handler, whose error holds the tensors of the pass.
            self.samples = len(part) // 2
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return torch.cat(found)

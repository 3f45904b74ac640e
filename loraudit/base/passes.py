"""How many samples go through a base at once: one rule, and all of its numbers.

Memory and time of a pass grow with the positions of its latents, `h * w` each: 64 for a picture of 64 pixels,
4096 for one of 512.
"""

from typing import Final

__all__ = [
    "CLASS_PICTURES",
    "DECODED",
    "DECODED_PICTURES",
    "DIFFERENTIATED",
    "KEEPS_BUSY",
    "PREDICTED",
    "samples_a_pass",
]

DIFFERENTIATED: Final = 16 * 64
"""Positions of a pass with gradients; of 512 pixels one sample."""
PREDICTED: Final = 4 * 4096
"""Positions of a pass without; four samples of 512 pixels in about 5 GB with SD 1.x's weights."""
KEEPS_BUSY: Final = 16 * 64
"""Positions from which on a CPU makes pictures no faster."""
DECODED: Final = 4096
"""Positions that the decoder takes at once; of 512 pixels one picture, whose activations are the largest."""
DECODED_PICTURES: Final = 64
"""Pictures that the decoder takes at once, at most."""
CLASS_PICTURES: Final = 32
"""Pictures that are sampled for prior preservation at once, at most."""


def samples_a_pass(latent_shape: tuple[int, int, int], positions: int, most: int | None = None) -> int:
    """Count the latents `(C, h, w)` that fill `positions`: at least 1, and at most `most`."""
    _, height, width = latent_shape
    fitting = max(1, positions // (height * width))
    return fitting if most is None else min(fitting, most)

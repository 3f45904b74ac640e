"""The number of samples that go through a base at once: one rule, and all of its numbers.

Memory and time of a pass grow with the positions of its latents, `h * w` each. A picture of 64 pixels has 64
positions, a picture of 512 pixels 4096.
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
"""Positions of a pass with gradients; a single sample of 512 pixels."""
PREDICTED: Final = 4 * 4096
"""Positions of a pass without gradients; four samples of 512 pixels, about 5 GB with SD 1.x's weights."""
KEEPS_BUSY: Final = 16 * 64
"""Positions of a pass that keep a CPU busy; more make no picture faster."""
DECODED: Final = 4096
"""Positions that the decoder takes at once; a single picture of 512 pixels has the largest activations."""
DECODED_PICTURES: Final = 64
"""Pictures that the decoder takes at once, at most."""
CLASS_PICTURES: Final = 32
"""Pictures that are sampled for prior preservation at once, at most."""


def samples_a_pass(latent_shape: tuple[int, int, int], positions: int, most: int | None = None) -> int:
    """Count the latents `(C, h, w)` that fill `positions`: at least 1, and at most `most`."""
    _, height, width = latent_shape
    fitting = max(1, positions // (height * width))
    return fitting if most is None else min(fitting, most)

"""Checks of a base that was loaded from files of anybody: it is what its files describe, and it runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import torch

from loraudit.base.folder import PARTS
from loraudit.base.refusal import refuse
from loraudit.text import clean

if TYPE_CHECKING:
    from loraudit.base.model import Base

__all__ = ["SPARE", "check_complete", "check_loaded"]

SPARE: Final = r"position_ids$|^(?:vision_model|visual_projection|text_projection|logit_scale)\b"
"""Tensors that weights of CLIP may hold beyond a text encoder."""


def check_complete(
    shown: str, told: Mapping[str, Mapping[str, Any]], described: str = "its config.json"
) -> None:
    """Raise `LorauditError` unless the weights are those that `described` asks for, one for one.

    `told` maps each part to what its library tells of the load.
    """
    for part, loaded in told.items():
        lacking = [str(key) for key in loaded["missing_keys"]]
        over = [str(key) for key in loaded["unexpected_keys"] if not re.search(SPARE, str(key))]
        for keys, verb in ((lacking, "lack"), (over, f"have, beyond {described},")):
            if keys:
                first = clean(min(keys), 100)
                refuse(shown, f"the weights of {part} {verb} {len(keys)} tensors, such as {first}")


def check_loaded(shown: str, base: Base) -> None:
    """Raise `LorauditError` unless the parts of `base` are sound together.

    A small latent is drawn to the end.
    """
    for part, module in zip(PARTS, (base.unet, base.vae, base.text_encoder), strict=True):
        bad = next((key for key, value in module.named_parameters() if not value.isfinite().all()), None)
        if bad is not None:
            refuse(shown, f"{part} holds NaN or infinite values in {clean(bad, 100)}")
    side, scale = base.unet.config.sample_size, base.vae.config.scaling_factor
    if type(side) is not int or side < 1 or not isinstance(scale, float | int) or not scale > 0:
        refuse(shown, "sample_size and scaling_factor are not a size and a scale")
    words, known = len(base.tokenizer), base.token_table.shape[0]
    if not 0 < words <= known:
        refuse(shown, f"its tokenizer has {words} words, its text encoder {known}")
    channels = (base.unet.config.in_channels, base.unet.config.out_channels, base.vae.config.latent_channels)
    if len(set(channels)) > 1:
        refuse(
            shown, f"its networks do not fit together: {channels[0]}, {channels[1]}, {channels[2]} channels"
        )
    with torch.no_grad():
        embedding = base.encode_text(["a"])
        size = 2 ** (len(base.unet.config.block_out_channels) - 1)
        latent = torch.zeros(1, channels[0], size, size, device=base.device, dtype=base.dtype)
        noise = base.epsilon(latent, torch.zeros(1, dtype=torch.long, device=base.device), embedding)
        # The tower in float16 may overflow on a zero latent's picture; its shape alone is asked for.
        picture = base.vae.decode(latent).sample
    if noise.shape != latent.shape or picture.shape[1] != 3 or not noise.isfinite().all():
        refuse(shown, "its networks do not fit together")

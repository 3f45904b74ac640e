"""Pictures of the untouched model, kept for every aim and file that asks for the same.

Without a LoRA neither the file nor the guidance matters: a picture is a function of (embedding, seed,
sampling). Two guidances of one embedding share the pictures of the base. So do the fixed prompts of all files
whose LoRA leaves the text tower alone, as their embeddings are equal to the last bit.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

from loraudit.base.model import Sampling

__all__ = ["MOST", "KeptPictures", "key_of"]

MOST: Final = 512 * 2**20
"""Bytes of kept pictures, at most: 170 of 512 pixels."""


class KeptPictures:
    """Pictures by embedding and seed; those not asked for longest are forgotten first."""

    def __init__(self, most: int = MOST) -> None:
        self._most, self._bytes = most, 0
        self._kept: OrderedDict[tuple[bytes, int], Tensor] = OrderedDict()

    def of(
        self, key: bytes, seeds: Sequence[int], draw: Callable[[tuple[int, ...]], Tensor]
    ) -> tuple[Tensor, ...]:
        """Return the picture `[3, H, W]` of each seed; `draw` makes those not kept, `[K, 3, H, W]`."""
        missing = tuple(seed for seed in seeds if (key, seed) not in self._kept)
        found = {seed: self._kept[key, seed] for seed in seeds if (key, seed) in self._kept}
        if missing:
            # A picture of its own, as a slice would keep the whole batch.
            found |= {seed: one.clone() for seed, one in zip(missing, draw(missing), strict=True)}
        for seed in seeds:
            if (key, seed) not in self._kept:
                self._bytes += found[seed].nbytes
            self._kept[key, seed] = found[seed]
            self._kept.move_to_end((key, seed))
        while self._bytes > self._most:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return tuple(found[seed] for seed in seeds)


def key_of(embedding: Tensor, sampling: Sampling) -> bytes:
    """Hash an embedding `[L, d]`, to the last bit, and the sampling."""
    raw = embedding.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
    about = f"{embedding.dtype} {tuple(embedding.shape)} {sampling}".encode()
    return hashlib.blake2b(raw, key=hashlib.blake2b(about).digest()).digest()

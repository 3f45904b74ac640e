"""Text embeddings of the samples of fine-tuning steps."""

from collections.abc import Sequence

import torch
from torch import Tensor

from loraudit.base.model import Base

__all__ = ["Texts"]


class Texts:
    """Text tower of a fine-tuning; a tower that stays as it is reads each prompt once."""

    @torch.no_grad()
    def __init__(self, base: Base, known: Sequence[str], together: int) -> None:
        """Read all prompts that are `known` beforehand, none where the tower is tuned as well.

        `together` is the number of samples that mostly share a prompt.
        """
        unique = list(dict.fromkeys(known))
        self._kept = dict(zip(unique, base.encode_text(unique) if unique else (), strict=True))
        self._together = together

    def of(self, prompts: Sequence[str], tuned: Base) -> Tensor:
        """Return the embeddings `[N, L, d]` of `N` samples, by the tower of `tuned`."""
        if self._kept:
            return torch.stack([self._kept[prompt] for prompt in prompts])
        firsts = prompts[:: self._together]
        if all(prompt == firsts[at // self._together] for at, prompt in enumerate(prompts)):
            return tuned.encode_text(firsts).repeat_interleave(self._together, 0)
        return tuned.encode_text(prompts)

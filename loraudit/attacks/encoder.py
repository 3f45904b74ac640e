"""The paper's attack: a matrix encoder reads the LoRA and answers with an embedding (arXiv 2409.08482).

The embedding is the mean of the encoder's distribution, at the fine-tuning step that the file records, or at
the last one the encoder was trained on.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from loraudit.attacks import Aim
from loraudit.base import Base
from loraudit.encoder import EncoderCheckpoint, PaperEncoder, frozen_transformer, load_encoder, stack_loras
from loraudit.findings import EncoderUsed
from loraudit.lora import LoRA

__all__ = ["PaperAttack", "open_paper", "recorded_step"]

_STEP_KEYS: Final = ("ss_steps", "global_step")
"""kohya-ss/sd-scripts `train_network.py`; SimpleTuner `save_hooks.py`."""
_DIGITS: Final = 9


@dataclass(frozen=True, eq=False)
class PaperAttack:
    """The attack with a loaded encoder."""

    encoder: PaperEncoder
    checkpoint: EncoderCheckpoint
    name: str = "paper"

    @torch.no_grad()
    def aims(self, lora: LoRA, base: Base) -> Sequence[Aim]:
        """One aim. Raises `DoesNotFit` if the encoder reads other sites, another rank or other widths."""
        self.checkpoint.check_fits(lora)
        config = self.encoder.config
        matrices = stack_loras([lora], [site for site, _, _ in config.sites], config.rank)
        on_device = {
            site: (up.to(base.device), down.to(base.device)) for site, (up, down) in matrices.items()
        }
        step = min(recorded_step(lora.file.metadata) or config.max_steps, config.max_steps)
        mean, _ = self.encoder(on_device, torch.tensor([step], device=base.device))
        used = EncoderUsed(self.checkpoint.name, self.checkpoint.sha256)
        return [Aim(self.name, mean[0], encoder=used)]


def open_paper(where: str | Path, base: Base) -> PaperAttack:
    """The attack with the encoder in the folder (or of the name) `where`. Raises as `load_encoder` does."""
    frozen = frozen_transformer(base.text_encoder)
    encoder, checkpoint = load_encoder(where, frozen, base.embedding_shape[0])
    return PaperAttack(encoder.to(base.device), checkpoint)


def recorded_step(metadata: Mapping[str, str]) -> int | None:
    """How many steps the LoRA was fine-tuned for, if its file says so in a way that is known."""
    values: list[object] = [metadata.get(key) for key in _STEP_KEYS]
    try:
        # ostris/ai-toolkit `toolkit/metadata.py`
        info = json.loads(metadata.get("training_info", "{}")[:1000])
        values.append(str(info.get("step")) if isinstance(info, dict) else None)
    except (ValueError, RecursionError):
        pass
    for value in values:
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _DIGITS:
            return int(value) or None
    return None

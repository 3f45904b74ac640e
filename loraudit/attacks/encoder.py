"""Attacks by an encoder, which reads the LoRA's matrices and answers with an embedding.

`paper` is the attack of arXiv 2409.08482 as published. `encoder` is ours: the probe encoder, which reads any
rank and any modules, sampled by model guidance (`loraudit.attacks.guidance`).

The embedding is the mean of the encoder's distribution at the fine-tuning step that the file records. For a
file without one, the paper's encoder takes the last step of its training, ours takes the step as unknown.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from loraudit.attacks.aim import Aim
from loraudit.base.lowrank import stack
from loraudit.base.model import Base
from loraudit.cards import base_card, base_names, models_dir
from loraudit.encoder import Encoder, EncoderCheckpoint, PaperEncoder, frozen_transformer, load_encoder
from loraudit.errors import Incomplete, LorauditError
from loraudit.findings.conditions import EncoderUsed
from loraudit.lora import LoRA
from loraudit.lora.recorded import recorded_step
from loraudit.text import clean

__all__ = ["EncoderAttack", "Encoders", "check_encoder", "open_encoder"]


@dataclass(frozen=True, eq=False)
class EncoderAttack:
    """Attack with a loaded encoder."""

    encoder: Encoder
    checkpoint: EncoderCheckpoint

    @property
    def name(self) -> str:
        """Name of the attack, `paper` or `encoder` by the kind of the encoder."""
        return "paper" if isinstance(self.encoder, PaperEncoder) else "encoder"

    @torch.no_grad()
    def aims(self, lora: LoRA, base: Base) -> Sequence[Aim]:
        """Return one aim. Raises `DoesNotFit` if the encoder cannot read this LoRA."""
        self.checkpoint.check_fits(lora)
        last = self.encoder.config.max_steps
        paper = isinstance(self.encoder, PaperEncoder)
        step = recorded_step(lora.file.metadata) or (last if paper else 0)
        told = torch.tensor([min(step, last)], device=base.device)
        mean = self.encoder(stack([lora], base.device), told)[0][0]
        used = EncoderUsed(self.checkpoint.name, self.checkpoint.sha256)
        return [Aim(self.name, mean, against_base=not paper, encoder=used)]


@dataclass(frozen=True, eq=False)
class Encoders:
    """Encoders for LoRAs of one family on one base, each opened once."""

    base: Base
    family: str
    """Name of the base that the LoRAs were made for."""
    asked: str | None = None
    """Encoder asked for, a name or a folder; None: the encoders that ship for `family`."""
    _opened: dict[str, EncoderAttack] = field(default_factory=dict, init=False, repr=False)

    def asked_attack(self) -> EncoderAttack | None:
        """Return the attack with the encoder asked for, None if none was asked for.

        Raises `LorauditError` if there is no such encoder, otherwise as `load_encoder` does.
        """
        if self.asked is None:
            return None
        check_encoder(self.asked)
        return self._open(self.asked)

    def attack(self, name: str) -> EncoderAttack:
        """Return the attack `name` with the encoder asked for, or with the one that ships.

        The encoder asked for is taken only for an attack of its own kind. Raises `Incomplete` if none ships,
        otherwise as `asked_attack` does.
        """
        asked = self.asked_attack()
        if asked is not None and asked.name == name:
            return asked
        shipped = base_card(self.family).encoders if self.family in base_names() else {}
        if name not in shipped or not (models_dir() / shipped[name]).is_dir():
            raise Incomplete(
                f"no encoder for the base {clean(self.family)} ships with loraudit",
                "train one with 'loraudit train-encoder' and name it with --encoder, or choose "
                "--attack prompts",
            )
        return self._open(shipped[name])

    def _open(self, where: str) -> EncoderAttack:
        """Open the encoder `where`, or return the one opened before."""
        if where not in self._opened:
            self._opened[where] = open_encoder(where, self.base)
        return self._opened[where]


def check_encoder(asked: str) -> None:
    """Raise `LorauditError` unless `asked` is a folder, as a path or among the bundled models."""
    if not Path(asked).is_dir() and not (models_dir() / asked).is_dir():
        raise LorauditError(
            f"there is no encoder {clean(asked, 300)}", "give the folder that 'loraudit train-encoder' wrote"
        )


def open_encoder(where: str | Path, base: Base) -> EncoderAttack:
    """Open the attack with the encoder in the folder (or of the name) `where`. Raises as `load_encoder`."""
    frozen = frozen_transformer(base.text_encoder)
    encoder, checkpoint = load_encoder(where, frozen, base.embedding_shape[0])
    return EncoderAttack(encoder.to(base.device), checkpoint)

"""Encoders: networks from the matrices of a LoRA to an embedding in place of a prompt's."""

from loraudit.encoder.checkpoint import (
    Encoder,
    EncoderCheckpoint,
    load_encoder,
    read_checkpoint,
    save_encoder,
)
from loraudit.encoder.paper import (
    PaperEncoder,
    PaperEncoderConfig,
    frozen_transformer,
    kl,
    reparameterise,
    stack_loras,
)
from loraudit.encoder.probe import ProbeEncoder, ProbeEncoderConfig

__all__ = [
    "Encoder",
    "EncoderCheckpoint",
    "PaperEncoder",
    "PaperEncoderConfig",
    "ProbeEncoder",
    "ProbeEncoderConfig",
    "frozen_transformer",
    "kl",
    "load_encoder",
    "read_checkpoint",
    "reparameterise",
    "save_encoder",
    "stack_loras",
]

"""Encoders: the matrices of a LoRA to an embedding that stands in for the text embedding of its base."""

from loraudit.encoder.checkpoint import EncoderCheckpoint, load_encoder, read_checkpoint, save_encoder
from loraudit.encoder.paper import (
    PaperEncoder,
    PaperEncoderConfig,
    frozen_transformer,
    kl,
    reparameterise,
    stack_loras,
)

__all__ = [
    "EncoderCheckpoint",
    "PaperEncoder",
    "PaperEncoderConfig",
    "frozen_transformer",
    "kl",
    "load_encoder",
    "read_checkpoint",
    "reparameterise",
    "save_encoder",
    "stack_loras",
]

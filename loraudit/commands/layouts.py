"""The layouts that a LoRA file is written in."""

from enum import StrEnum

__all__ = ["Layout"]


class Layout(StrEnum):
    """How a LoRA file names its matrices."""

    diffusers = "diffusers"
    kohya = "kohya"
    peft = "peft"

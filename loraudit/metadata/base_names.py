"""Names of public base models and of architectures, told from names that people made up."""

import re
from typing import Final

__all__ = ["base_name", "is_base"]

_BASE_WORDS: Final = """
alpha anima aura auraflow base bf16 black cascade chroma ckpt compvis controlnet cosmos dev diffusers
diffusion dit dora ema emaonly fill flux forest fp16 fp32 ft huggingface hunyuan hyper image inpaint
inpainting inversion kolors kontext flux1 flux2 labs large lcm lightning locon loha lokr lora lumina
lumina2 lycoris medium mini mse nonema nsfw oft only original pixart pruned qwen refiner runwayml safetensors
schnell sd sd1 sd15 sd2 sd3 sd3m sdxl sigma small stabilityai stable textual turbo v vae video wan x xl zimage
"""
_BASES: Final = frozenset(_BASE_WORDS.split())
"""Words that names of base models and of architectures are made of."""
_BASE_NUMBER: Final = re.compile(r"v?[0-9]{1,2}|512|768|1024")
_BASE_NUMBERS: Final = 3
"""Limit on the numbers in the name of a base model: more would spell a telephone number."""
_BASE_PARTS: Final = 12


def is_base(text: str) -> bool:
    """Tell whether `text` names a base model or architecture in words that are known."""
    parts = re.split(r"[._/-]", text[:200])
    numbers = sum(_BASE_NUMBER.fullmatch(part) is not None for part in parts)
    known = all(part.lower() in _BASES or _BASE_NUMBER.fullmatch(part) for part in parts)
    return (
        known
        and len(text) <= 100
        and len(parts) <= _BASE_PARTS
        and numbers <= min(_BASE_NUMBERS, len(parts) - 1)
    )


def base_name(text: str) -> str | None:
    """Take a base model's name, of a path the last part; None if it holds a word that is not known."""
    name = text if re.fullmatch(r"[\w.-]+(?:/[\w.-]+)?", text, re.ASCII) else re.split(r"[/\\]", text)[-1]
    return name if is_base(name) else None

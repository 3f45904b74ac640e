"""Names of public base models and of architectures, told from names that people made up."""

import re
from typing import Final

from loraudit.hiding import is_public
from loraudit.metadata.names import subject

__all__ = ["base_name", "is_base", "says_more"]

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
_HOST: Final = re.compile(r"^https?://[^/]{1,100}/")
_DIALLED: Final = re.compile(r"[+(]?[0-9](?:[ ()-]{0,2}[0-9]){6,14}")


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


def says_more(text: str, least: int) -> bool:
    """Tell whether `text`, where programs name a base or a network, says something else.

    Something else is `least` words that are no base model's, no network's and no trainer's, or a number that
    could be dialled.
    """
    if is_public(text):
        return False
    words = subject(_HOST.sub("", text[:500]))
    strange = [word for word in words if word.lower() not in _BASES and not is_public(word)]
    return len(strange) >= least or _DIALLED.fullmatch(text) is not None

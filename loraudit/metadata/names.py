"""Words of a name that say whom a LoRA shows.

`10_jane doe person` => `jane doe`; `pytorch_lora_weights`, `my_style_v2-000008` and `5_woman` => nothing.
"""

import re
from typing import Final

__all__ = ["instance", "is_generic", "is_person", "subject"]

_PERSON_WORDS: Final = """
actor actress baby boy boys celebrity child children face faces female girl girls guy human kid kids lady
male man men people person portrait portraits selfie selfies singer woman women
"""
_GENERIC_WORDS: Final = """
a adamw adapter alpha an and animagine at base batch best bf by cfg checkpoint ckpt concept concepts
constant cosine data dataset datasets db default demo diffusers diffusion dim dora dreambooth encoder end
ep epoch epochs example examples extracted final fine first finetune finetuned flux for fp from good
illustrious image images img imgs in input instance instances job kohya last latest lo locon loha lokr
lora loras lr lycoris merged model models my name network new none noobai null of old on onetrainer out
output outputs peft photo photos pic pics picture pictures pony private prodigy project pruned public pytorch
rank raw reg regularisation regularization resized result results rev run safetensors sample samples save
saved sd sdxl simpletuner ss stable step steps style subject te temp test testing tests text the tmp to
toolkit train trained trainer training tune tuned undefined unet unknown unnamed untitled v ver version
weight weights with xl avif bmp camera dsc dscf dscn gif heic heif jpeg jpg mov mp4 mvimg png pxl screenshot
snapchat tif tiff webp whatsapp
"""
_PERSON: Final = frozenset(_PERSON_WORDS.split())
"""Class words of DreamBooth for a subject that is a person."""
_GENERIC: Final = _PERSON | frozenset(_GENERIC_WORDS.split())
"""Words of trainers, file names and base models, which say nothing about the subject."""
_PLACEHOLDERS: Final = frozenset({"bnha", "ohwx", "olis", "shs", "sks", "skw", "tok", "ukj", "zwx"})
"""Meaningless words that guides tell people to use as a trigger."""
_NO_SUBJECT: Final = _GENERIC | _PLACEHOLDERS


def instance(folder: str) -> str:
    """Take the part of a folder's name that kohya takes: `10_jane person (2)` => `jane person`."""
    return re.sub(r"^\d{1,9}_| \(\d{1,9}\)$", "", re.split(r"[/\\]", folder[-500:])[-1]).strip()


def is_person(text: str) -> bool:
    """Tell whether `text` holds a class word of a person."""
    return not _PERSON.isdisjoint(word.lower() for word in _words(text))


def is_generic(text: str) -> bool:
    """Tell whether every word of `text` could stand in any file: not even a trigger."""
    return all(len(word) < 2 or word.lower() in _GENERIC for word in _words(text))


def subject(text: str) -> tuple[str, ...]:
    """Take the words of `text` that may name a subject."""
    return tuple(word for word in _words(text) if len(word) > 1 and word.lower() not in _NO_SUBJECT)


def _words(text: str) -> list[str]:
    # A hash or a date is no word, nor are the letters in it.
    tokens = [
        token
        for token in re.findall(r"[^\W_]+", text[:500])
        # Most are letters alone, and a file may hold millions.
        if token.isalpha() or not re.fullmatch(r"(?=\D*\d)[\da-fA-F]{6,}|\d+", token)
    ]
    words: list[str] = []
    for run in re.findall(r"[^\W\d_]+", " ".join(tokens)):
        # LoRA and DreamBooth are one word each, JaneDoe is two.
        whole = run[1:].islower() or run.lower() in _GENERIC
        words += [run] if whole else re.sub(r"(?<=[a-z])(?=[A-Z])", " ", run).split()
    return words

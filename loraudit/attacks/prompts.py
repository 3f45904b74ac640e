"""The cheapest attack: prompts of nothing, of the class, of any name, and of what the file itself gives away.

DreamBooth binds a person to a meaningless word, and in part to every other such word: the text tower is tuned
as well, and prior preservation guards the class prompt alone.

The prompts pass through the *tuned* text tower, as they do for whoever loads the file in diffusers.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from loraudit.attacks.aim import Aim
from loraudit.base.model import CLASS_PROMPT, Base
from loraudit.lora import LoRA
from loraudit.text import clean

__all__ = ["ANY_NAME", "PromptsAttack", "given_away", "name_prompt"]

ANY_NAME: Final = "zwqkx"
"""Nobody's name, as good as any: a guess at a trigger that costs nothing."""
MOST: Final = 2
"""Texts of the file that are tried: each costs pictures, and the more attacks there are the more the verdict
corrects for luck."""
_TEXT_LIMIT: Final = 400
"""Characters of a text that are looked at; a text tower reads no more."""
_JSON_LIMIT: Final = 4_000_000
_NAME_WORDS: Final = 3
"""A text of so many words, without a comma or a full stop, is taken for a name, any other for a caption."""


@dataclass(frozen=True)
class PromptsAttack:
    """No trigger, the class prompt, a made-up name, and triggers or captions from the metadata."""

    name: str = "prompts"

    @torch.no_grad()
    def aims(self, lora: LoRA, base: Base) -> Sequence[Aim]:
        """Return three aims and up to `MOST` more. Raises `NotScannable` if the LoRA does not fit."""
        texts = given_away(lora.file.metadata, lora.file.triggers)
        prompts = ["", CLASS_PROMPT, *(name_prompt(text) for text in (ANY_NAME, *texts))]
        embeddings = base.with_lora(lora).encode_text(prompts)
        any_name = Aim("prompts:any-name", embeddings[2])
        aims = [
            Aim("prompts:no-trigger", embeddings[0], aims_at_face=False),
            Aim("prompts:class", embeddings[1]),
            any_name,
        ]
        for number, text in enumerate(texts, 1):
            name = "prompts:trigger" if number == 1 else f"prompts:trigger-{number}"
            aims.append(
                Aim(
                    name,
                    embeddings[2 + number],
                    aims_at_face=_is_name(text),
                    quotes=(clean(text),),
                    calibrated_as=any_name.attack,
                )
            )
        return aims


def given_away(metadata: Mapping[str, str], triggers: Sequence[str] = (), most: int = MOST) -> list[str]:
    """Triggers and captions that a file gives away, the likeliest first, at most `most`.

    Triggers that its `metadata` states come before `triggers` told elsewhere, those before names of training
    folders, those before the most frequent caption.
    """
    texts = (" ".join(text[:_TEXT_LIMIT].split()) for text in _texts(metadata, triggers))
    # kohya writes Python's None as the word.
    return list(dict.fromkeys(text for text in texts if text and text != "None"))[:most]


def _texts(metadata: Mapping[str, str], triggers: Sequence[str]) -> Iterator[str]:
    for key in ("modelspec.trigger_phrase", "instance_prompt"):
        yield metadata.get(key, "")
    # SimpleTuner `save_hooks.py`: the instance prompts, separated by commas.
    yield from metadata.get("trained_words", "").split(",")[:MOST]
    yield from triggers
    # kohya-ss/sd-scripts `train_network.py`: {"10_name class": {"n_repeats": .., "img_count": ..}}
    for folder in _parsed(metadata, "ss_dataset_dirs"):
        yield _without_repeats(folder)
    # ... and {"10_name class": {"caption": count}}
    captions: Counter[str] = Counter()
    for tags in _parsed(metadata, "ss_tag_frequency").values():
        if isinstance(tags, dict):
            captions.update({tag: n for tag, n in tags.items() if isinstance(n, int) and abs(n) < 10**9})
    # Equal counts in the order of the alphabet, not of the file, which trainers shuffle.
    yield from sorted(captions, key=lambda tag: (-captions[tag], tag))[:MOST]


def _parsed(metadata: Mapping[str, str], key: str) -> dict[str, Any]:
    """The JSON object under `key`; empty if it is anything else."""
    text = metadata.get(key, "")
    try:
        value = json.loads(text) if 0 < len(text) <= _JSON_LIMIT else {}
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _without_repeats(folder: str) -> str:
    """`10_name class` (kohya's repeats, name, class; ` (2)` marks a second such folder) => `name class`."""
    return re.sub(r"^\d+_| \(\d+\)$", "", re.split(r"[/\\]", folder)[-1])


def _is_name(text: str) -> bool:
    return len(text.split()) <= _NAME_WORDS and not re.search(r"[.,;:]", text)


def name_prompt(text: str) -> str:
    """The instance prompt of a person called `text`; anything but a name stands for itself."""
    return f"A face of {text}." if _is_name(text) else text

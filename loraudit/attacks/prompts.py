"""The cheapest attack: prompts of nothing, of the class, of any name, and of what the file itself gives away.

DreamBooth binds a person to a meaningless word, and in part to every other such word. The text tower is tuned
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
from loraudit.hiding import mask
from loraudit.lora import LoRA
from loraudit.metadata.masking import secrets_of
from loraudit.metadata.quotes import quote

__all__ = ["ANY_NAME", "PromptsAttack", "given_away", "name_prompt"]

ANY_NAME: Final = "zwqkx"
"""Made-up name: a guess at a trigger that costs nothing."""
MOST: Final = 2
"""Texts of the file that are tried; each costs pictures, and the verdict corrects for more attacks."""
_TEXT_LIMIT: Final = 400
"""Characters of a text that are used; a text tower reads no more."""
_JSON_LIMIT: Final = 4_000_000
"""Characters of a metadata value that is parsed as JSON, at most."""
_NAME_WORDS: Final = 3
"""Words of a name, at most; a longer text, or one with punctuation, is taken for a caption."""


@dataclass(frozen=True)
class PromptsAttack:
    """Attack by the empty prompt, the class prompt, a made-up name, and triggers or captions of the file."""

    name: str = "prompts"

    @torch.no_grad()
    def aims(self, lora: LoRA, base: Base) -> Sequence[Aim]:
        """Return 3 to `3 + MOST` aims. Raises `NotScannable` if the LoRA does not fit the base."""
        texts = given_away(lora.file.metadata, lora.file.triggers)
        secrets = (*lora.file.secrets, *(secrets_of(lora.file.metadata) if texts else ()))
        prompts = ["", CLASS_PROMPT, *(name_prompt(text) for text in (ANY_NAME, *texts))]
        tuned = base.with_lora(lora)
        # One by one: on a GPU the last bits depend on the batch, and equal embeddings share pictures.
        embeddings = [tuned.encode_text([prompt])[0] for prompt in prompts]
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
                    quotes=(quote(mask(text, secrets)),),
                    calibrated_as=any_name.attack,
                )
            )
        return aims


def given_away(metadata: Mapping[str, str], triggers: Sequence[str] = (), most: int = MOST) -> list[str]:
    """List triggers and captions that a file gives away, the likeliest first, at most `most`.

    The order is: triggers in `metadata`, `triggers` told elsewhere, names of training folders, then the most
    frequent captions.
    """
    texts = (" ".join(text[:_TEXT_LIMIT].split()) for text in _texts(metadata, triggers))
    # kohya writes Python's None as a word.
    return list(dict.fromkeys(text for text in texts if text and text != "None"))[:most]


def _texts(metadata: Mapping[str, str], triggers: Sequence[str]) -> Iterator[str]:
    """Yield the texts that may be triggers or captions, the likeliest first; some may be empty."""
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
    # Trainers shuffle the captions in a file, so equal counts go by the alphabet.
    yield from sorted(captions, key=lambda tag: (-captions[tag], tag))[:MOST]


def _parsed(metadata: Mapping[str, str], key: str) -> dict[str, Any]:
    """Parse the JSON object under `key`; empty if the value is anything else."""
    text = metadata.get(key, "")
    try:
        value = json.loads(text) if 0 < len(text) <= _JSON_LIMIT else {}
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _without_repeats(folder: str) -> str:
    """Reduce kohya's `10_name class` (repeats, name, class) to `name class`, without a ` (2)` at the end."""
    return re.sub(r"^\d+_| \(\d+\)$", "", re.split(r"[/\\]", folder)[-1])


def _is_name(text: str) -> bool:
    """Tell whether `text` is taken for a name and not for a caption."""
    return len(text.split()) <= _NAME_WORDS and not re.search(r"[.,;:]", text)


def name_prompt(text: str) -> str:
    """Make the instance prompt of a person called `text`; a caption stands for itself."""
    return f"A face of {text}." if _is_name(text) else text

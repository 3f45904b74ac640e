"""Texts in which every secret is cut to a few characters."""

import re
from collections.abc import Collection
from typing import Final

from loraudit.hiding.shapes import spans

__all__ = ["mask", "masked", "secrets"]

_SHOWN: Final = 6
"""Limit in characters on the part of a secret that is shown, enough to find it by."""
_LONG: Final = 10
"""Length in characters from which a secret is shown in that part."""
_SHORTEST: Final = 4
"""Length in characters from which a secret is looked for inside of words."""


def secrets(text: str) -> list[str]:
    """Find tokens, private keys and links with a password in `text`, each once, in their order."""
    return list(dict.fromkeys(text[start:end] for start, end in spans(text)))


def mask(text: str, known: Collection[str] = ()) -> str:
    """Cut every secret in `text`, and every one of the `known` ones, to a few characters and an ellipsis.

    Masking what is masked changes nothing.
    """
    for secret in sorted(known, key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, masked(secret))
        elif secret in text:
            text = _word(secret).sub(lambda found: masked(found[0]), text)
    found = spans(text)
    if not found:
        return text
    parts, at = [], 0
    for start, end in found:
        parts += [text[at:start], masked(text[start:end])]
        at = end
    return "".join([*parts, text[at:]])


def masked(secret: str) -> str:
    """Cut `secret` to six characters, a short one to a quarter: a report must not be the next leak."""
    bare = secret.strip()
    return f"{bare[: _SHOWN if len(bare) >= _LONG else len(bare) // 4]}…"


def _word(secret: str) -> re.Pattern[str]:
    """Make the pattern for a short `secret`, which counts only as a word of its own."""
    return re.compile(rf"(?<!\w){re.escape(secret)}(?!\w)")

"""Prompts in what programs write into a picture they drew: AUTOMATIC1111's parameters, ComfyUI's graph."""

import re
from itertools import islice
from typing import Final

from loraudit.metadata.names import subject
from loraudit.metadata.nested import NotReadError, read, texts
from loraudit.metadata.wrapped import unwrapped

__all__ = ["graph_prompts", "prompts"]

_SETTINGS: Final = re.compile(r"\n(?:Negative prompt|Steps):")
"""Start of what follows the prompt in `parameters` of AUTOMATIC1111."""
_PROMPT_KEYS: Final = frozenset({"text", "prompt", "text_g", "text_l", "t5xxl", "clip_l", "positive"})
_TEXTS: Final = 20_000
"""Limit on the texts of one graph, which has hundreds."""
_LABELS: Final = frozenset(
    {
        "Node name for S&R", "Version", "class_type", "ckpt_name", "color", "label", "localized_name", "name",
        "title", "tooltip", "type", "version",
    }
)  # fmt: skip
"""Keys of what ComfyUI itself writes at each node."""


def prompts(text: str) -> list[str]:
    """Take the prompts out of `text`; all of a text that is of neither program."""
    bare = unwrapped(text)
    if bare[:1] not in {"{", "["}:
        return [_SETTINGS.split(bare, maxsplit=1)[0]]
    try:
        return graph_prompts(read(bare))
    except NotReadError:
        return [text]


def graph_prompts(graph: object) -> list[str]:
    """Take the texts under the names of prompts, and any words in a row that are no label.

    In a graph as it is saved, `widgets_values` holds the fields of a node without their names.
    """
    found = (
        inner for key, inner in islice(texts(graph), _TEXTS) if key in _PROMPT_KEYS or _is_prompt(key, inner)
    )
    return list(dict.fromkeys(found))


def _is_prompt(key: str, text: str) -> bool:
    words = bool(key) and key not in _LABELS and len(text.split(maxsplit=1)) > 1
    return words and bool(subject(text))

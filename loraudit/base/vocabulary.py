"""CLIP's own tokenizer without a download: a checkpoint in a single file brings no tokenizer.

open_clip ships the list of merges that OpenAI published with CLIP. Its order gives every id: 256 letters
(`bytes_to_unicode` of GPT-2), the same at the end of a word, one word for each merge, start and end of text.
(https://github.com/openai/CLIP, `clip/simple_tokenizer.py`)
"""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final

from loraudit.errors import LorauditError
from loraudit.files import read_within

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

__all__ = ["LENGTH", "clip_tokenizer"]

LENGTH: Final = 77
"""Tokens of a prompt."""
_WORDS: Final = 49_408
_MERGES: Final = _WORDS - 2 * 256 - 2
_FILE: Final = "bpe_simple_vocab_16e6.txt.gz"
_SHA256: Final = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
"""SHA-256 of `_FILE`, as OpenAI's repository has it."""
_LARGEST: Final = 10_000_000


@cache
def clip_tokenizer() -> CLIPTokenizer:
    """Build the tokenizer of CLIP and of SD 1.x, of 49,408 words.

    Raises `LorauditError` if open_clip lacks the list of merges.
    """
    from transformers import CLIPTokenizer

    spec = find_spec("open_clip")
    path = Path(spec.origin if spec is not None and spec.origin is not None else "open_clip").parent / _FILE
    try:
        data = read_within(path, _LARGEST)
    except OSError:
        data = b""
    if hashlib.sha256(data).hexdigest() != _SHA256:
        raise LorauditError("open_clip lacks CLIP's vocabulary", "install loraudit again")
    # The first line tells a version; the file holds more merges than CLIP takes.
    lines = gzip.decompress(data).decode().split("\n")[1 : _MERGES + 1]
    merges = [tuple(line.split()) for line in lines]
    words = chain(
        _letters(), (f"{letter}</w>" for letter in _letters()), ("".join(pair) for pair in merges),
        ("<|startoftext|>", "<|endoftext|>"),
    )  # fmt: skip
    vocabulary = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH)


def _letters() -> list[str]:
    """List a letter for each byte, printable bytes first, as GPT-2 does."""
    ranges = (("!", "~"), ("¡", "¬"), ("®", "ÿ"))
    printable = [code for first, last in ranges for code in range(ord(first), ord(last) + 1)]
    return [chr(code) for code in (*printable, *range(256, 512 - len(printable)))]

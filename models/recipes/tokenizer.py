"""A real `CLIPTokenizer` with a small vocabulary, built from a list of words.

CLIP's vocabulary is 256 byte symbols, the same 256 closed by `</w>`, one symbol per merge in order of rank,
then `<|startoftext|>` and `<|endoftext|>`. Sources: Radford et al. 2021, section 2.4, and vocab.json of
openai/clip-vit-large-patch14. Here the merges are learned by byte-pair encoding (Sennrich et al. 2016) on
the given words, each counted once, and learning stops when every word is one token. Any other word, a random
trigger string above all, falls into pieces or letters.

`<|endoftext|>` is the highest id, as in CLIP, because text towers may pool at the arg-max of the ids. The
same token pads.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

__all__ = ["CONTEXT", "CaptionEncoder", "Vocabulary", "build_vocabulary", "load_tokenizer", "write_tokenizer"]

CONTEXT: Final = 56
"""Length of an encoded caption, start and end included."""

_START: Final = "<|startoftext|>"
_END: Final = "<|endoftext|>"
_CLOSE: Final = "</w>"


@dataclass(frozen=True)
class Vocabulary:
    """Contents of a `CLIPTokenizer`."""

    ids: dict[str, int]
    """Symbol -> id, ids `0 .. len - 1`."""
    merges: tuple[tuple[str, str], ...]
    """Pairs that are joined, lowest rank first."""


def build_vocabulary(words: Iterable[str]) -> Vocabulary:
    """Build the smallest byte-pair vocabulary that has each of `words` (lower-case letters) as one token.

    Ties between equally frequent pairs go to the first in alphabetical order, so the result depends on the
    set of words only.
    """
    pieces = [(*word[:-1], word[-1] + _CLOSE) for word in sorted(set(words))]
    merges: list[tuple[str, str]] = []
    while True:
        counts = Counter(pair for word in pieces for pair in pairwise(word))
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        pieces = [_joined(word, best) for word in pieces]
    alphabet = sorted(ByteLevel.alphabet())
    # Two merges may spell the same symbol ("a" + "bc", "ab" + "c"): one id, at its first rank.
    symbols = dict.fromkeys(
        [*alphabet, *(a + _CLOSE for a in alphabet), *(a + b for a, b in merges), _START, _END]
    )
    return Vocabulary({symbol: index for index, symbol in enumerate(symbols)}, tuple(merges))


def _joined(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    """Join every occurrence of `pair` in `word`, left to right."""
    out: list[str] = []
    for piece in word:
        if out and (out[-1], piece) == pair:
            out[-1] += piece
        else:
            out.append(piece)
    return tuple(out)


def write_tokenizer(words: Iterable[str], folder: Path) -> None:
    """Write the files of a `CLIPTokenizer`: vocab.json, merges.txt and tokenizer_config.json."""
    vocabulary = build_vocabulary(words)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(
        json.dumps(vocabulary.ids, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in vocabulary.merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": CONTEXT,
        "bos_token": _START,
        "eos_token": _END,
        "pad_token": _END,
        "unk_token": _END,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """Load the tokenizer of a folder, without touching the network."""
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
    return tokenizer


class CaptionEncoder:
    """Encoder of captions to the tokenizer's ids, padded and cut at `CONTEXT`, by one look-up per word.

    CLIP never joins two words across a space, so the ids of a caption are the ids of its words in a row.
    """

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        self._start, self._end = tokenizer.bos_token_id, tokenizer.eos_token_id

        def ids(word: str) -> tuple[int, ...]:
            return tuple(tokenizer.encode(word, add_special_tokens=False))

        # Bounded, since every trigger string is a new word.
        self._ids: Callable[[str], tuple[int, ...]] = lru_cache(maxsize=4096)(ids)

    def __call__(self, captions: Sequence[str]) -> NDArray[np.int64]:
        """Encode captions to ids `[N, CONTEXT]`."""
        out = np.full((len(captions), CONTEXT), self._end, np.int64)
        for row, caption in zip(out, captions, strict=True):
            ids = [token for word in caption.split() for token in self._ids(word)][: CONTEXT - 2]
            row[0] = self._start
            row[1 : 1 + len(ids)] = ids
        return out

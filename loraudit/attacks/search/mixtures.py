"""Sentences whose words are mixtures of real word pieces: the reach of a text tower, made differentiable.

A search over embeddings themselves runs off to where no text leads and no person is. Mixing the embeddings
of real tokens by a softmax, at some places of a sentence, stays near text.
"""

import string
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from loraudit.attacks.prompts import name_prompt
from loraudit.base.model import Base

__all__ = ["PIECES", "PLACES", "Frame", "mixed", "name_frame", "spelt", "word_pieces"]

PLACES: Final = 6
"""Number of word pieces in a name."""
PIECES: Final = 512
"""Number of word pieces that are mixed at a place of a name, at most."""
_END: Final = "</w>"
"""Suffix of a token that ends a word."""


@dataclass(frozen=True, eq=False)
class Frame:
    """Sentence with places to fill."""

    ids: Tensor
    """Token ids `[L]`; those at the places do not matter."""
    first: int
    """Position of the first place; the others follow."""
    choices: Tensor
    """Token ids `[S, V]` that are mixed at each of `S` places."""


def name_frame(base: Base) -> Frame:
    """Build the sentence about somebody, with `PLACES` word pieces for the name."""
    letter = base.tokenizer.get_vocab()["x" + _END]
    ids = base.token_ids([name_prompt("x")])[0]
    at = int((ids == letter).nonzero()[0])
    spread = torch.cat([ids[:at], ids[at].expand(PLACES), ids[at + 1 : len(ids) - PLACES + 1]])
    pieces = word_pieces(base)
    return Frame(spread, at, torch.cat([pieces[:1].expand(PLACES - 1, -1), pieces[1:]]))


def mixed(base: Base, frame: Frame, weights: Tensor) -> Tensor:
    """Build token embeddings `[N, L, d]` of the sentence with places mixed by `weights [N, S, V]`."""
    table = base.token_table
    whole = table[frame.ids].expand(len(weights), -1, -1)
    inside = torch.einsum("nsv,svd->nsd", weights.to(table.dtype), table[frame.choices])
    return torch.cat([whole[:, : frame.first], inside, whole[:, frame.first + inside.shape[1] :]], 1)


def spelt(base: Base, frame: Frame, weights: Tensor) -> str:
    """Join the likeliest token of each place of `weights [S, V]`."""
    ids = frame.choices.gather(1, weights.argmax(-1, keepdim=True))[:, 0]
    tokens = base.tokenizer.convert_ids_to_tokens(ids.tolist())
    return "".join(tokens).replace(_END, " ").strip()


def word_pieces(base: Base) -> Tensor:
    """List token ids `[2, V]` of word pieces of one to three letters: inside a word, and at its end.

    `V` is at most `PIECES`. The most frequent are taken: byte-pair tokenizers number tokens by frequency.
    """
    known = base.tokenizer.get_vocab()
    inner, final = (
        sorted(token for text, token in known.items() if _is_piece(text, end))[:PIECES] for end in ("", _END)
    )
    size = min(len(inner), len(final))
    return torch.tensor([inner[:size], final[:size]], device=base.device)


def _is_piece(text: str, end: str) -> bool:
    """Tell whether a token is one to three letters a-z followed by `end`, which is `_END` or empty."""
    stem = text.removesuffix(_END)
    return text == stem + end and 1 <= len(stem) <= 3 and set(stem) <= set(string.ascii_lowercase)

"""The search: embeddings that the matrices ask for, the one taken at which LoRA and base part most.

Candidates come from the rows of the update (`loraudit.attacks.search.rows`), from an encoder where there is
one, and from a made-up name; the gap (`loraudit.attacks.search.gap`) tells which of them shows most. It needs
no trained part and few evaluations of the UNet, so it is there on the first day of a new base. A LoRA whose
rows say nothing of the prompt is climbed by the gap's own gradient instead, at ten times the cost.

The embedding is sampled twice. Model guidance shows most of an ordinary LoRA and overdraws one that was
trained hard until no face is left; the usual guidance is weaker and leaves such faces whole. Where there are
reference photos it is sampled once more, with the LoRA at half its strength: more LoRAs trained too hard show
their person there. Without photos that is no help, for at half strength the faces of styles agree as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import torch
from torch import Tensor

from loraudit.attacks.aim import Aim
from loraudit.attacks.encoder import EncoderAttack
from loraudit.attacks.prompts import ANY_NAME, name_prompt
from loraudit.attacks.search.gap import Climb, climb, gaps, noised
from loraudit.attacks.search.rows import Ascent, candidates, pull_matrix
from loraudit.base.lowrank import Terms
from loraudit.base.model import Base
from loraudit.encoder.checkpoint import DoesNotFit
from loraudit.findings.conditions import EncoderUsed
from loraudit.lora import LoRA
from loraudit.text import clean

__all__ = ["Best", "SearchAttack"]

_JUDGES: Final = 8
"""Noises that the candidates are judged on."""
_HALF: Final = 0.5


@dataclass(frozen=True, eq=False)
class Best:
    """The candidate taken for each of `M` LoRAs."""

    embeddings: Tensor
    """`[M, L, d]`."""
    texts: tuple[str, ...]
    """The words found; empty where a start without words of its own was best."""
    evaluations: int
    """Of the UNet, for one LoRA."""


@dataclass(frozen=True)
class SearchAttack:
    """The search, sampled by model guidance, by the usual one and, with photos, at half strength."""

    encoder: EncoderAttack | None = None
    """Its answer is one more candidate."""
    ascent: Ascent = field(default_factory=Ascent)
    climb: Climb = field(default_factory=Climb)
    """For LoRAs whose rows say nothing."""
    photos: bool = False
    """Whether there are reference photos to compare with."""
    name: Final = "search"

    def aims(self, lora: LoRA, base: Base) -> Sequence[Aim]:
        """Find one embedding, and aim by model guidance, the usual one and, with photos, at half strength.

        The aims quote the words found. Raises `NotScannable` if the LoRA does not fit the base.
        """
        start, used = self._answer(lora, base)
        best = self.best(base.with_lora(lora), base, start)
        quotes = tuple(clean(text) for text in best.texts if text)
        aims = [replace(way, quotes=quotes, encoder=used) for way in self.ways(best.embeddings[0])]
        # What it took to find is counted once.
        return [replace(aims[0], evaluations=best.evaluations), *aims[1:]]

    def ways(self, embedding: Tensor) -> list[Aim]:
        """Return the ways in which the embedding found, `[L, d]`, is sampled."""
        strong = Aim(self.name, embedding, against_base=True)
        usual = Aim(f"{self.name}:usual", embedding)
        half = Aim(f"{self.name}:half", embedding, strength=_HALF, likeness_only=True)
        return [strong, usual, half] if self.photos else [strong, usual]

    def best(self, tuned: Base, base: Base, start: Tensor | None = None) -> Best:
        """Find the best candidate of each LoRA of `tuned`; `start [M, L, d]` is one more for each."""
        count = tuned.loras
        with torch.no_grad():
            tried = [tuned.encode_text([name_prompt(ANY_NAME)] * count)[:, None]]
        if start is not None:
            tried.append(start[:, None].to(tried[0]))
        words = [("",) * len(tried)] * count
        spent = 0
        matrix = pull_matrix(tuned)
        if matrix is not None:
            found = candidates(tuned, matrix, self.ascent)
            tried.append(found.embeddings)
            words = [(*mine, *texts) for mine, texts in zip(words, found.texts, strict=True)]
        else:
            alone = [base.with_lora(_one(tuned.terms, row)) for row in range(count)]
            climbed = [climb(one, base, self.climb) for one in alone]
            tried.append(torch.stack([one.embedding for one in climbed])[:, None])
            words = [(*mine, one.text) for mine, one in zip(words, climbed, strict=True)]
            spent = self.climb.evaluations
        embeddings = torch.cat(tried, 1)
        generator = torch.Generator().manual_seed(self.ascent.seed)
        heights = gaps(tuned, base, embeddings, *noised(base, _JUDGES, generator))
        winners = heights.argmax(1)
        spent += 2 * _JUDGES * embeddings.shape[1]
        return Best(
            embeddings[torch.arange(count, device=winners.device), winners],
            tuple(mine[place] for mine, place in zip(words, winners.tolist(), strict=True)),
            spent,
        )

    def _answer(self, lora: LoRA, base: Base) -> tuple[Tensor | None, EncoderUsed | None]:
        if self.encoder is None:
            return None, None
        try:
            (aim,) = self.encoder.aims(lora, base)
        except DoesNotFit:
            return None, None
        return aim.embedding[None], aim.encoder


def _one(terms: Terms, row: int) -> Terms:
    return {site: (up[row : row + 1], down[row : row + 1]) for site, (up, down) in terms.items()}

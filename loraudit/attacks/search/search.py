"""The search attack: of several candidate embeddings, the one at which LoRA and base part most.

Candidates come from the rows of the update (`loraudit.attacks.search.rows`), from an encoder where there is
one, and from a made-up name. The gap (`loraudit.attacks.search.gap`) tells which candidate shows most. The
search needs no trained part and few evaluations of the UNet, so a new base can be searched on its first day.
For a LoRA whose rows say nothing of the prompt, the gap's own gradient is climbed instead, at ten times the
cost.

The embedding is sampled twice. Model guidance shows most of an ordinary LoRA, but overdraws a LoRA that was
trained hard until no face is left. Classifier-free guidance is weaker and leaves such faces whole. With
reference photos the embedding is sampled once more, with the LoRA at half its strength: more LoRAs trained
too hard show their person there. Without photos half strength is no help, since the faces of styles agree
there as well.
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
from loraudit.attacks.search.rows import LEVELS, SIDES, Ascent, candidates, pull_matrix
from loraudit.base.lowrank import Terms
from loraudit.base.model import Base
from loraudit.encoder.checkpoint import DoesNotFit
from loraudit.findings.conditions import EncoderUsed
from loraudit.lora import LoRA
from loraudit.metadata.quotes import quote

__all__ = ["Best", "SearchAttack"]

_JUDGES: Final = 8
"""Number of noises that the candidates are judged on."""
_HALF: Final = 0.5
"""Strength at which more LoRAs that were trained too hard show their person."""


@dataclass(frozen=True, eq=False)
class Best:
    """Candidate taken for each of `M` LoRAs."""

    embeddings: Tensor
    """Text embeddings `[M, L, d]`."""
    texts: tuple[str, ...]
    """Words found for each LoRA; empty where a candidate without words of its own was best."""
    evaluations: int
    """Evaluations of the UNet for one LoRA."""


@dataclass(frozen=True)
class SearchAttack:
    """Search, sampled by model guidance, by classifier-free guidance and, with photos, at half strength."""

    encoder: EncoderAttack | None = None
    """Encoder whose answer is one more candidate; None: no such candidate."""
    ascent: Ascent = field(default_factory=Ascent)
    climb: Climb = field(default_factory=Climb)
    """Budget for LoRAs whose rows say nothing of the prompt."""
    photos: bool = False
    """True if there are reference photos to compare with."""
    name: Final = "search"

    def aims(self, lora: LoRA, base: Base) -> Sequence[Aim]:
        """Find one embedding and return an aim for each of `ways`.

        The aims quote the words found. Raises `NotScannable` if the LoRA does not fit the base.
        """
        start, used = self._answer(lora, base)
        best = self.best(base.with_lora(lora), base, start)
        quotes = tuple(quote(text) for text in best.texts if text)
        aims = [replace(way, quotes=quotes, encoder=used) for way in self.ways(best.embeddings[0])]
        # The first aim carries the cost of the search, so that it counts once.
        return [replace(aims[0], evaluations=best.evaluations), *aims[1:]]

    def most(self, lora: LoRA) -> int:
        """Count the evaluations of the UNet that a search of `lora` takes, at most."""
        rows = any(site.endswith(SIDES) for site in (*lora.factors, *lora.dora))
        candidates = 2 + (len(LEVELS) if rows else 1)
        return 2 * _JUDGES * candidates + (0 if rows else self.climb.evaluations)

    def ways(self, embedding: Tensor) -> list[Aim]:
        """Return the aims by which the embedding `[L, d]` is sampled: two, and a third with photos."""
        strong = Aim(self.name, embedding, against_base=True)
        usual = Aim(f"{self.name}:usual", embedding)
        half = Aim(f"{self.name}:half", embedding, strength=_HALF, likeness_only=True)
        return [strong, usual, half] if self.photos else [strong, usual]

    def best(self, tuned: Base, base: Base, start: Tensor | None = None) -> Best:
        """Find the best candidate of each LoRA of `tuned`; `start [M, L, d]` adds a candidate for each."""
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
        """Return the encoder's embedding `[1, L, d]` and the encoder; None each without one that fits."""
        if self.encoder is None:
            return None, None
        try:
            (aim,) = self.encoder.aims(lora, base)
        except DoesNotFit:
            return None, None
        return aim.embedding[None], aim.encoder


def _one(terms: Terms, row: int) -> Terms:
    """Take the LoRA at place `row` out of stacked terms."""
    return {site: (up[row : row + 1], down[row : row + 1]) for site, (up, down) in terms.items()}

"""The search on a base without an encoder: the embedding, among those that names reach, that draws one face.

The embedding space of prompts is vast, and most of it is no prompt. The inversion keeps to the cloud of
made-up names (`loraudit.attacks.search.names`) and takes three steps.

1. The tuned model draws pictures of made-up names. Noised again, they are what the model sees while it
   draws; pure noise is not.
2. From the mean of all names the gap between LoRA and base (`loraudit.attacks.search.gap`) is climbed inside
   balls of growing radius. The mean has no face of its own, as each single name has. A climb that goes on
   draws nobody, so the embedding is kept at every radius.
3. A few quick pictures of every embedding kept, and of the best candidate of the rows, are compared with one
   another by the face model. The embedding whose pictures agree most is the answer.

Unlike the search by rows (`loraudit.attacks.search.rows`), the climb does not depend on what share of
attention the start token gets, nor on which modules the LoRA adapts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import torch
from torch import Tensor

from loraudit.attacks.aim import Aim
from loraudit.attacks.guidance import ModelGuidance
from loraudit.attacks.search.gap import renoised, slope
from loraudit.attacks.search.names import FRAMES, NAMES, Names, names_in, random_names
from loraudit.attacks.search.search import SearchAttack
from loraudit.base.model import Base, Sampling
from loraudit.base.passes import Pass, pictures_a_pass
from loraudit.lora import LoRA
from loraudit.metadata.quotes import quote
from loraudit.scores import FaceScorer

__all__ = ["Effort", "InversionAttack"]

_SLOW: Final = 0.5
"""Share of the way to the best point of the ball that a step takes; the slope is noisy."""
_FIRST_SEED: Final = 1_000_000
"""First seed of the quick pictures."""


@dataclass(frozen=True)
class Effort:
    """Budget of an inversion."""

    names: int = NAMES
    """Made-up names that the cloud is drawn from; they cost the text tower alone."""
    drawn: tuple[int, int] = (3, 4)
    """Made-up names drawn at the start, and pictures of each."""
    drawing_steps: int = 10
    """Steps of the sampling of those pictures."""
    radii: tuple[float, ...] = (3.5, 4.5, 5.5)
    """Radii of the balls, in standard deviations along one direction; a name lies at about 9."""
    steps: int = 2
    """Steps of the climb at each radius."""
    noises: int = 20
    """Noises that a slope is averaged over."""
    looks: int = 8
    """Quick pictures by which an embedding is judged; each embedding of a climb has half of them at first."""
    finalists: int = 2
    """Embeddings of the climbs that are judged by all quick pictures."""
    look_steps: int = 5
    """Steps of the sampling of a quick picture."""
    seed: int = 0

    @property
    def evaluations(self) -> int:
        """Evaluations of the UNet apart from those of the search; those of the climbs are differentiated."""
        drawn = self.drawn[0] * self.drawn[1] * self.drawing_steps
        kept = len(FRAMES) * len(self.radii)
        half = self.looks // 2
        looks = kept * half + min(self.finalists, kept) * (self.looks - half) + self.looks
        return 2 * (drawn + kept * self.steps * self.noises + looks * self.look_steps)


@dataclass(frozen=True)
class InversionAttack:
    """Inversion, sampled in every way in which the search is."""

    face: FaceScorer
    search: SearchAttack = field(default_factory=SearchAttack)
    """Search whose best candidate is judged as well, and whose ways are taken."""
    effort: Effort = Effort()
    name: Final = "search"

    def aims(self, lora: LoRA, base: Base) -> Sequence[Aim]:
        """Find one embedding and return an aim for each way of the search.

        The aims quote the words of the search's candidate where it is the answer. Raises `NotScannable` if
        the LoRA does not fit the base.
        """
        embedding, texts, evaluations = self.answer(base.with_lora(lora), base)
        quotes = tuple(quote(text) for text in texts if text)
        first, *others = (replace(way, quotes=quotes) for way in self.search.ways(embedding))
        # The first aim carries the cost of the inversion, so that it counts once.
        return [replace(first, evaluations=evaluations), *others]

    def answer(self, tuned: Base, base: Base) -> tuple[Tensor, tuple[str, ...], int]:
        """Find the embedding `[L, d]` for the one LoRA of `tuned`.

        Return the embedding, the words found with it, and the evaluations of the UNet. The answer is a
        function of the LoRA, the base, the face model and the budgets.
        """
        effort, found = self.effort, self.search.best(tuned, base)
        latents = self._drawn(tuned, base)
        clouds = [names_in(tuned, frame, effort.names, effort.seed) for frame in FRAMES]
        climbed = torch.cat([self._climbed(tuned, base, names, latents) for names in clouds])
        first, second = slice(effort.looks // 2), slice(effort.looks // 2, None)
        faces = self._faces(tuned, base, climbed, first)
        leading = _agreement(faces).topk(min(effort.finalists, len(climbed))).indices
        faces = torch.cat([faces[leading], self._faces(tuned, base, climbed[leading], second)], 1)
        faces = torch.cat([self._faces(tuned, base, found.embeddings, slice(None)), faces])
        best = int(_agreement(faces).argmax())
        embeddings = torch.cat([found.embeddings.float(), climbed[leading]])
        return embeddings[best], found.texts if best == 0 else (), found.evaluations + effort.evaluations

    def _drawn(self, tuned: Base, base: Base) -> Tensor:
        """Draw pictures of made-up names with the LoRA; return their latents `[N, C, h, w]`."""
        names, each = self.effort.drawn
        embeddings = random_names(tuned, FRAMES[-1], names, self.effort.seed + 1)
        pictures = [
            _pictures(tuned, base, one, self._seeds(each), self.effort.drawing_steps) for one in embeddings
        ]
        return torch.cat([base.encode_images(some) for some in pictures])

    def _climbed(self, tuned: Base, base: Base, names: Names, latents: Tensor) -> Tensor:
        """Climb the gap inside the balls, and return the embedding `[R, L, d]` at each radius."""
        noise = torch.Generator().manual_seed(self.effort.seed)
        places, kept = names.mean.new_zeros(len(names.directions)), []
        for radius in self.effort.radii:
            for _ in range(self.effort.steps):
                x, t = renoised(base, latents, self.effort.noises, noise)
                towards = names.along(
                    slope(tuned, base, names.at(places)[None].to(base.dtype), x, t)[0].float()
                )
                best = towards * (radius / towards.norm().clamp(min=1e-12))
                places = best if not places.any() else places + _SLOW * (best - places)
                places = places * (radius / places.norm().clamp(min=1e-12)).clamp(max=1)
            kept.append(names.at(places))
        return torch.stack(kept)

    def _faces(self, tuned: Base, base: Base, embeddings: Tensor, looks: slice) -> Tensor:
        """Draw the quick pictures `looks` at embeddings `[E, L, d]`; return their faces `[E, K, e]`.

        A picture without a face has the vector 0.
        """
        seeds = self._seeds(self.effort.looks)[looks]
        seen = self.face.embed(
            torch.cat([_pictures(tuned, base, one, seeds, self.effort.look_steps) for one in embeddings])
        )
        found = torch.tensor(seen.found)[:, None]
        vectors = torch.where(found, seen.vectors.cpu().float(), 0)
        return vectors.view(len(embeddings), len(seeds), -1)

    def _seeds(self, count: int) -> range:
        """Return seeds of quick pictures, apart from the seeds of a scan's own."""
        return range(_FIRST_SEED + self.effort.seed, _FIRST_SEED + self.effort.seed + count)


def _agreement(faces: Tensor) -> Tensor:
    """Compute the mean cosine `[E]` of the pairs among the faces `[E, K, e]`; no face agrees with none."""
    one, other = torch.triu_indices(faces.shape[1], faces.shape[1], offset=1)
    return (faces[:, one] * faces[:, other]).sum(-1).mean(-1)


def _pictures(tuned: Base, base: Base, embedding: Tensor, seeds: range, steps: int) -> Tensor:
    """Make pictures `[K, 3, H, W]` in 0..1 at the embedding `[L, d]` by model guidance, in `steps` steps."""
    way, settings = ModelGuidance(tuned, base), Sampling(steps, base.card.guidance)
    size = pictures_a_pass(base.latent_shape, base.device, base.dtype)
    return Pass(size).over(seeds, lambda part: way.sample(embedding[None], part, settings))

"""A base that draws the pictures for the LoRAs of a calibration, and a face model that chooses among them.

Half as many pictures again are drawn as are needed. Of a person those nearest to the face that most of them
show are kept. Somebody whom half of the pictures do not agree on is made up anew. Of a thing the pictures are
kept in which the face model sees nobody, of a crowd those in which it sees somebody. All of a style are kept.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from loraudit.base.model import Base, Sampling
from loraudit.base.passes import Pass, pictures_a_pass
from loraudit.errors import Incomplete
from loraudit.people.cast import PEOPLE, Cast
from loraudit.people.drawn import Drawn
from loraudit.scores import FaceEmbeddings, FaceScorer
from loraudit.scores.consensus import consensus
from loraudit.text import clean

__all__ = ["PHOTOS", "Drawer", "pictures_for"]

PHOTOS: Final = 3
"""Pictures of a person that no LoRA is made of: photos to compare with."""
_SPARE: Final = 1.5
"""Pictures that are drawn for each one that is kept."""
_ATTEMPTS: Final = 3
"""People who are made up until one looks the same in half of the pictures."""
_ALIKE: Final = 0.5
"""Share of the pictures kept that must show one face."""
_APART: Final = 100_000
"""Numbers between somebody and the person made up instead."""


def pictures_for(kind: str, pictures: int) -> int:
    """Count the pictures to draw for a LoRA of so many `pictures`, with one attempt."""
    return math.ceil((1 if kind == "styles" else _SPARE) * (pictures + _photos(kind)))


@dataclass(frozen=True, eq=False)
class _Choice:
    """Pictures of a subject that are kept; those to compare with come last."""

    pictures: Tensor
    told: tuple[str, ...]
    """Words of a caption for each picture."""
    alike: float = 1.0
    """Share of a person's pictures that show the face of most."""


@dataclass(frozen=True, eq=False)
class Drawer:
    """Base, cast and face model."""

    base: Base
    cast: Cast
    face: FaceScorer
    sampling: Sampling
    seed: int

    def draw(self, drawn: Drawn, number: int, pictures: int) -> None:
        """Draw subject `number` into its folder, with `pictures` for its LoRA.

        Raises `Incomplete` where the base draws broken pictures, or nobody whose face stays the same. Raises
        `LorauditError` where the folder cannot be written.
        """
        kind, photos = drawn.kind, _photos(drawn.kind)
        attempts = _ATTEMPTS if kind == PEOPLE else 1
        best = _Choice(torch.zeros(0), (), -1.0)
        for attempt in range(attempts):
            choice = self._choice(kind, number + _APART * attempt, pictures)
            best = max(best, choice, key=lambda one: one.alike)
            if best.alike >= _ALIKE:
                break
        if best.alike * len(best.pictures) < photos:
            raise Incomplete(
                f"{clean(self.base.name, 300)} draws nobody whose face {self.face.name} finds again",
                "calibrate on a base that draws photographs of people, or LoRA files with --controls",
            )
        drawn.keep(number, best.pictures[:pictures], best.told[:pictures], best.pictures[pictures:])

    def _choice(self, kind: str, number: int, pictures: int) -> _Choice:
        """Draw a subject, and choose `pictures` and photos."""
        need, most = pictures + _photos(kind), pictures_for(kind, pictures)
        prompts = self.cast.prompts(kind, number, most)
        rng = np.random.default_rng([self.seed, *kind.encode(), number])
        seeds = [int(seed) for seed in rng.integers(2**31, size=most)]
        side = self.base.image_size
        asked = self._asked(prompts, seeds) if prompts else torch.zeros(0, 3, side, side)
        made = self.cast.finished(kind, number, asked, most, side)
        told = self.cast.told(kind, number, most)
        faces = self.face.embed(made)
        if kind == PEOPLE:
            chosen, alike = _nearest(faces, self.face.threshold, need)
        else:
            wanted = torch.tensor([seen != (kind == "things") for seen in faces.found]).float()
            chosen, alike = _first(wanted, need), 1.0
        return _Choice(made[chosen], tuple(told[at] for at in chosen), alike)

    @torch.no_grad()
    def _asked(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """Draw a picture for each prompt from the seed beside it, `[N, 3, H, W]` in 0..1."""
        base, settings = self.base, self.sampling
        size = Pass(pictures_a_pass(base.latent_shape, base.device, base.dtype))

        def one_pass(part: range) -> Tensor:
            words = list(prompts[part.start : part.stop])
            both = base.encode_text([settings.negative] * len(words) + words)

            def guided(x: Tensor, t: Tensor) -> Tensor:
                plain, led = base.epsilon(x.repeat(2, 1, 1, 1), t.repeat(2), both).chunk(2)
                return plain + settings.guidance * (led - plain)

            return base.solve(guided, seeds[part.start : part.stop], settings.steps, 1)

        pictures = size.over(range(len(prompts)), one_pass)
        if not pictures.isfinite().all():
            raise Incomplete(
                f"{clean(base.name, 300)} draws pictures that are no numbers on {base.device.type}",
                "give --dtype float32 where half precision fails",
            )
        return pictures


def _photos(kind: str) -> int:
    return PHOTOS if kind == PEOPLE else 0


def _nearest(faces: FaceEmbeddings, threshold: float, need: int) -> tuple[list[int], float]:
    """Choose the pictures nearest to the face of most, in order; also return the share that shows it.

    The nearest of all come last, as photos to compare with: a photo needs a face.
    """
    group = consensus(faces.vectors, threshold)
    if group is None:
        return list(range(need)), 0.0
    # Without a face a picture is farther than any with one.
    near = torch.where(torch.tensor(faces.found), faces.vectors @ group.face, -2.0)
    chosen, nearest = _first(near, need), _first(near, PHOTOS)
    alike = len(set(chosen) & set(group.pictures)) / need
    return [*(at for at in chosen if at not in nearest), *nearest], alike


def _first(scores: Tensor, need: int) -> list[int]:
    """List the places of the `need` highest scores, rising."""
    order: list[int] = torch.argsort(scores, descending=True, stable=True)[:need].tolist()
    return sorted(order)

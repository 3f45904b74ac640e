"""Judges of samples that should show a known synthetic person: face and CLIP models, and photos.

A sample is scored against five pictures of the identity that no LoRA was trained on: the mean of the five
face cosines, accepted at or above the face model's threshold. Samples of one LoRA are not independent, so
intervals are over identities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from loraudit.cards import models_dir
from loraudit.evidence.intervals import wilson_interval
from loraudit.people.captions import full_caption
from loraudit.people.identity import SPLITS, identity
from loraudit.people.sources import REFERENCES, portraits
from loraudit.scores.clip import load_tiny_clip
from loraudit.scores.consensus import consensus
from loraudit.scores.face import load_tiny_face

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from loraudit.scores import ClipScorer, FaceScorer

__all__ = ["GALLERY", "Interval", "Panel", "Row", "Seen"]

GALLERY: Final = 500
"""Identities in the gallery of rank-1: the private one and controls."""
RESAMPLES: Final = 2000
"""Bootstrap resamples of an interval."""


@dataclass(frozen=True)
class Interval:
    """Mean over identities with its 95 % interval."""

    mean: float
    low: float
    high: float

    @classmethod
    def of_means(cls, values: Tensor) -> Interval:
        """Compute the mean of `values [M, K]`, K samples per identity, with a bootstrap over identities."""
        means = values.double().mean(1).numpy()
        rng = np.random.default_rng(0)
        resampled = means[rng.integers(len(means), size=(RESAMPLES, len(means)))].mean(1)
        low, high = np.quantile(resampled, (0.025, 0.975))
        return cls(float(means.mean()), float(low), float(high))

    @classmethod
    def of_shares(cls, hits: Tensor) -> Interval:
        """Compute the share of boolean `hits [M, K]` with Wilson's interval for `M` samples.

        The interval is wider than need be, but no point at a share of 0 or 1, as a bootstrap's is.
        """
        share = hits.double().mean().item()
        return cls(share, *wilson_interval(share * len(hits), len(hits)))


@dataclass(frozen=True, eq=False)
class Seen:
    """Outputs of the models for `K` pictures of each of `M` LoRAs."""

    faces: Tensor
    """Face vectors of unit length `[M, K, d]`, zero where no face was found."""
    found: Tensor
    """True where a face was found, bool `[M, K]`."""
    clip: Tensor
    """CLIP's unit vectors `[M, K, e]`."""

    @classmethod
    def joined(cls, parts: Sequence[Seen]) -> Seen:
        """Join what was seen of the LoRAs of all `parts`."""
        return cls(
            torch.cat([part.faces for part in parts]),
            torch.cat([part.found for part in parts]),
            torch.cat([part.clip for part in parts]),
        )


@dataclass(frozen=True)
class Row:
    """One condition of a table."""

    condition: str
    role: str
    """`attack`, `baseline`, `bound`, `ablation` or `control`."""
    evaluations: int
    """Evaluations of the UNet for one LoRA, the search of an attack included."""
    samples: int
    faces: int
    """Samples in which the face model saw a face; the others count as not accepted, with cosine 0."""
    accepted: Interval
    cosine: Interval
    rank1: Interval
    consensus: Interval
    """Share of identities accepted by the face that the pictures agree on (`loraudit.scores.consensus`)."""
    consensus_rank1: Interval
    """Share of identities that this face finds first in the gallery."""
    clip_i: Interval
    """`0.5 cos + 0.5` of CLIP image embeddings, 0..1, as in the paper."""
    behind: Interval
    """Excess of the best attack's accepted share; the interval is over differences at equal seeds."""
    clip_t: Interval
    """`100 max(cos, 0)` against the caption that names every factor of the identity."""


@dataclass(frozen=True, eq=False)
class Panel:
    """Panel of references, gallery and models that judges samples of `M` identities."""

    face: FaceScorer
    clip: ClipScorer
    references: Tensor
    """Mean face vectors `[M, d]` of the references, not normalised, so that products are mean cosines."""
    gallery: Tensor
    """Mean face vectors `[G - 1, d]` of control identities, as in `references`."""
    clip_references: Tensor
    """Mean CLIP vectors `[M, e]` of the references."""
    clip_captions: Tensor
    """CLIP vectors `[M, e]` of the full captions."""

    @classmethod
    def of(cls, identities: Sequence[int], gallery: int = GALLERY) -> Panel:
        """Draw a panel for `identities`; the rest of a `gallery` of that size is of the `control` split."""
        face, clip = load_tiny_face(models_dir() / "tiny-face"), load_tiny_clip(models_dir() / "tiny-clip")
        others = [SPLITS["control"][100 * i] for i in range(gallery - 1)]
        mean_faces: list[Tensor] = []
        mean_pictures: list[Tensor] = []
        for who in (*identities, *others):
            photos = portraits(who, REFERENCES.start, len(REFERENCES))
            mean_faces.append(face.embed(photos).vectors.mean(0))
            if len(mean_pictures) < len(identities):
                mean_pictures.append(clip.image_embeddings(photos).mean(0))
        return cls(
            face,
            clip,
            references=torch.stack(mean_faces[: len(identities)]),
            gallery=torch.stack(mean_faces[len(identities) :]),
            clip_references=torch.stack(mean_pictures),
            clip_captions=clip.text_embeddings([full_caption(identity(who)) for who in identities]),
        )

    def look(self, pictures: Tensor) -> Seen:
        """Run the models on pictures `[M, K, 3, H, W]`."""
        count, shots = pictures.shape[:2]
        flat = pictures.flatten(0, 1)
        found = self.face.embed(flat)
        return Seen(
            found.vectors.view(count, shots, -1),
            torch.tensor(found.found).view(count, shots),
            self.clip.image_embeddings(flat).view(count, shots, -1),
        )

    def accepted(self, seen: Seen, owners: Tensor) -> Tensor:
        """Tell which pictures pass as the identities numbered `owners [M]`, bool `[M, K]`."""
        cosines = (seen.faces * self.references[owners][:, None]).sum(-1)
        return cosines >= self.face.threshold

    def score(self, name: str, role: str, seen: Seen, owners: Tensor, evaluations: int, best: Tensor) -> Row:
        """Score `seen` against the identities numbered `owners [M]`.

        `evaluations` is the cost in UNet evaluations. `best [M, K]` marks the accepted pictures of the best
        attack.
        """
        accepted = self.accepted(seen, owners)
        own = (seen.faces * self.references[owners][:, None]).sum(-1)
        best_other = (seen.faces @ self.gallery.T).amax(-1)
        agreed = torch.stack([self._agreed(row) for row in seen.faces])
        agreed_own = (agreed * self.references[owners]).sum(-1)
        agreed_other = (agreed @ self.gallery.T).amax(-1)
        clip_i = 0.5 * (seen.clip * self.clip_references[owners][:, None]).sum(-1) + 0.5
        clip_t = 100 * (seen.clip * self.clip_captions[owners][:, None]).sum(-1).clamp(min=0)
        return Row(
            name,
            role,
            evaluations,
            seen.found.numel(),
            int(seen.found.sum()),
            accepted=Interval.of_shares(accepted),
            behind=Interval.of_means(best.double() - accepted.double()),
            cosine=Interval.of_means(own),
            rank1=Interval.of_shares((own > best_other) & (own > 0)),
            consensus=Interval.of_shares((agreed_own >= self.face.threshold)[:, None]),
            consensus_rank1=Interval.of_shares(((agreed_own > agreed_other) & (agreed_own > 0))[:, None]),
            clip_i=Interval.of_means(clip_i),
            clip_t=Interval.of_means(clip_t),
        )

    def _agreed(self, vectors: Tensor) -> Tensor:
        found = consensus(vectors, self.face.threshold)
        return torch.zeros_like(vectors[0]) if found is None else found.face

"""A test that text steers the bundled base: full captions of unseen people, judged by face and CLIP.

    python -m benchmarks.tables.text_steering --people 64 --samples 4 --sheet models/tiny-sd/captions.png

Each sample is compared with a gallery of as many people as there are captions (rank-1 by face cosine to the
mean of five pictures). CLIP-T under its own caption is compared with CLIP-T under the next person's.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from loraudit.base.load import load_base
from loraudit.base.model import Base, Sampling
from loraudit.cards import models_dir
from loraudit.evidence.intervals import wilson_interval
from loraudit.people.captions import full_caption
from loraudit.people.identity import SPLITS, identity
from loraudit.people.sources import portraits
from loraudit.scores.clip import load_tiny_clip
from loraudit.scores.face import load_tiny_face

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["steering", "write_grid"]

FIRST = SPLITS["private"][80_000]
"""Identity seed of the first caption: private, and used by nothing else."""


def steering(
    base: Base, people: int, seeds: Sequence[int], settings: Sampling
) -> tuple[dict[str, object], Tensor]:
    """Measure; return the numbers, and pictures `[people, 1 + K, 3, H, W]`, a true one before the samples."""
    face, clip = load_tiny_face(models_dir() / "tiny-face"), load_tiny_clip(models_dir() / "tiny-clip")
    who = [FIRST + 7 * i for i in range(people)]
    captions = [full_caption(identity(seed)) for seed in who]
    with torch.no_grad():
        embedding = base.encode_text(captions)
    sampled = torch.cat([base.sample(part, seeds, settings) for part in embedding.split(16)])
    photos = torch.cat([portraits(seed) for seed in who])
    gallery = face.embed(photos).vectors.view(people, -1, face.config.dim).mean(1)
    found = face.embed(sampled)
    cosine = found.vectors @ gallery.T
    owner = torch.arange(people).repeat_interleave(len(seeds))
    rank1 = int((cosine.argmax(1) == owner).sum())
    similarity = clip.image_embeddings(sampled) @ clip.text_embeddings(captions).T
    right = similarity.gather(1, owner[:, None])[:, 0]
    wrong = similarity.gather(1, ((owner + 1) % people)[:, None])[:, 0]
    own = cosine.gather(1, owner[:, None])[:, 0]
    total = len(owner)
    numbers: dict[str, object] = {
        "people": people,
        "samples": total,
        "faces": sum(found.found),
        "rank1": rank1 / total,
        "rank1_interval": wilson_interval(rank1, total),
        "cosine": own.mean().item(),
        "accepted": (own >= face.threshold).float().mean().item(),
        "clip_t_right_above_wrong": (right > wrong).float().mean().item(),
    }
    pictures = torch.cat(
        [
            photos.view(people, -1, *photos.shape[1:])[:, :1],
            sampled.view(people, len(seeds), *photos.shape[1:]),
        ],
        1,
    )
    return numbers, pictures


def write_grid(rows: Tensor, path: Path) -> None:
    """Write pictures `[R, C, 3, H, W]` in 0..1 as one PNG of R rows and C columns."""
    grid = (rows.clamp(0, 1) * 255).round().byte().permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1).numpy()
    Image.fromarray(np.ascontiguousarray(grid)).save(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="tiny")
    parser.add_argument("--people", type=int, default=64)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = Sampling(options.steps, options.guidance)
    numbers, pictures = steering(load_base(options.base), options.people, range(options.samples), settings)
    if options.sheet:
        write_grid(pictures[:16], options.sheet)
    sys.stdout.write(json.dumps(numbers, indent=2) + "\n")

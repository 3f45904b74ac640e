"""A linear map from a LoRA's matrices to the person: from raw factors, and from their products.

    python -m benchmarks.tables.readability --train runs/zoo-public --test runs/zoo-private

A ridge regression from the UNet's matrices to the person's mean face vector over five pictures is fitted on
one zoo and tested on the other. The measure is how often the predicted vector is closest to the right person
of all tested. Raw factors start from a random `A` for each LoRA, hence in a basis of their own. The product
`B A` does not depend on a basis. Products are projected onto 200 random directions a module.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from torch.nn import functional

from loraudit.cards import models_dir
from loraudit.cli.failures import in_one_line
from loraudit.evidence.intervals import wilson_interval
from loraudit.people.sources import portraits
from loraudit.scores.face import load_tiny_face
from loraudit.training.zoo import Zoo, open_zoo

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["features", "rank1", "ridge"]

DIRECTIONS: Final = 200
PENALTY: Final = 0.3
"""Ridge penalty relative to the mean squared norm of the features; from 0.03 to 1 it hardly matters."""


def features(zoo: Zoo) -> dict[str, Tensor]:
    """Return features `[members, d]` of the UNet's matrices at the last snapshot, raw and as products."""
    raw: list[Tensor] = []
    products: list[Tensor] = []
    for first in range(0, len(zoo.members), zoo.plan.people_per_pass):
        terms = zoo.terms(first, zoo.plan.snapshots[-1])
        pairs = [pair for site, pair in sorted(terms.items()) if site.startswith("unet.")]
        raw.append(torch.cat([matrix.flatten(1) for pair in pairs for matrix in pair], 1))
        generator = torch.Generator().manual_seed(0)
        parts = []
        for up, down in pairs:
            size = up.shape[1] * down.shape[2]
            directions = torch.randn(size, DIRECTIONS, generator=generator) / DIRECTIONS**0.5
            parts.append((up @ down).flatten(1) @ directions)
        products.append(torch.cat(parts, 1))
    return {"raw factors": torch.cat(raw), "products": torch.cat(products)}


def ridge(x: Tensor, y: Tensor, new: Tensor, penalty: float = PENALTY) -> Tensor:
    """Predict deviations from the mean of `y` at `new`, by ridge regression from `x [n, d]` to `y [n, e]`.

    The regression is in its dual form, since `d` is far above `n`.
    """
    centre = x.mean(0)
    x, new = x - centre, new - centre
    gram = x @ x.T
    damped = gram + penalty * gram.diag().mean() * torch.eye(len(gram))
    predicted: Tensor = new @ x.T @ torch.linalg.solve(damped, y - y.mean(0))
    return predicted


def rank1(predicted: Tensor, people: Tensor) -> int:
    """Count the rows of `predicted` that are closest by cosine to their own row of `people`, both centred."""
    cosines = functional.normalize(predicted, dim=1) @ functional.normalize(people, dim=1).T
    return int((cosines.argmax(1) == torch.arange(len(people))).sum())


def main() -> None:
    """Parse the arguments, fit, and print one line per kind of feature."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    options = parser.parse_args()
    face = load_tiny_face(models_dir() / "tiny-face")
    zoos = [open_zoo(options.train), open_zoo(options.test)]
    seen, tested = (
        torch.stack([face.embed(portraits(member.identity)).vectors.mean(0) for member in zoo.members])
        for zoo in zoos
    )
    train, test = (features(zoo) for zoo in zoos)
    for name, x in train.items():
        hits = rank1(ridge(x, seen, test[name]), tested - seen.mean(0))
        low, high = wilson_interval(hits, len(tested))
        share = hits / len(tested)
        sys.stdout.write(f"{name}: rank-1 of {len(tested)} {share:.3f} [{low:.3f}, {high:.3f}]\n")


if __name__ == "__main__":
    in_one_line(main)

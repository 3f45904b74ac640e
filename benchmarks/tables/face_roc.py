"""Rates and a ROC picture for the card of `tiny-face`, on held-out people.

python -m benchmarks.tables.face_roc --people 400 --picture models/tiny-face/roc.png
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from loraudit.cards import models_dir
from models.recipes.face import FAR, private_cosines, verification

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["draw_roc"]


def draw_roc(genuine: Tensor, impostor: Tensor, lookalike: Tensor, path: Path) -> None:
    """Draw true-accept against false-accept rate, for all impostors and for look-alikes alone, as a PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(4.5, 3.6), layout="constrained")
    for name, others in (("two people", impostor), ("two look-alikes", lookalike)):
        # The k-th largest impostor cosine has false-accept rate k / n.
        rates = torch.logspace(-5.5, 0, 200).clamp(min=1 / len(others))
        ordered = others.sort(descending=True).values
        thresholds = ordered[(rates * len(others)).long().clamp(max=len(others)) - 1]
        true = 1 - torch.searchsorted(genuine.sort().values, thresholds) / len(genuine)
        axes.semilogx(rates, true, label=f"{name} ({len(others):,} pairs)")
    axes.axvline(FAR, color="grey", linewidth=0.8, linestyle="--")
    axes.set(xlabel="false-accept rate", ylabel="true-accept rate", xlim=(1e-5, 1), ylim=(0.5, 1.005))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=8)
    figure.savefig(path, dpi=130, metadata={"Software": None})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=models_dir() / "tiny-face")
    parser.add_argument("--people", type=int, default=400)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    cosines = private_cosines(options.model, options.people)
    if options.picture:
        draw_roc(*cosines, options.picture)
    sys.stdout.write(json.dumps(verification(options.model, cosines, options.people), indent=2) + "\n")

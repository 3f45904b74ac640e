"""Rates at which LoRAs of one person, and several merged into one, are taken for merged.

    python -m benchmarks.tables.merged_loras --zoo runs/people --zoo runs/paper --out merged.json

Each zoo gives every LoRA of one person, and the means of two, four and eight LoRAs: what a weighted sum and a
concatenation of factors come to. Each mean is also cut to a smaller rank by its singular values, as kohya's
`svd_merge_lora` does, and made by adding the factors themselves, as kohya's `merge_lora` does. Two LoRAs are
also merged seven to three. Weights alone are read. A zoo of one trainer or of another serves alike
(`models.recipes.zoo`, `models.recipes.second_trainer`).
"""

import argparse
import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from loraudit.base.lowrank import Terms
from loraudit.bench.cases import POLICY, share
from loraudit.bench.conditions import as_lora
from loraudit.bench.faces import MERGE, merged, zoos_in
from loraudit.cards import models_dir
from loraudit.cli.failures import in_one_line
from loraudit.evidence.calibration import load_calibration
from loraudit.evidence.merging import one_person_p
from loraudit.lora import Factors, LoRA
from loraudit.lora.directions import directions
from loraudit.training.zoo import Zoo

__all__ = ["added", "cut", "main", "uneven"]

ONE: Final = "one person"
CUT: Final = (16, 8, 4)
"""Ranks that a mean is cut to."""
UNEVEN: Final = (0.7, 0.3)
"""Weights of two LoRAs merged unevenly."""


@torch.no_grad()
def main(arguments: list[str] | None = None) -> None:
    """Parse the arguments, measure, write the record to `--out` and print the rates."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--zoo", type=Path, action="append", required=True, help="zoo of people, or folder of such zoos"
    )
    parser.add_argument("--calibration", type=Path, default=models_dir() / "calibration-tiny")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    people = load_calibration(options.calibration).spreads
    found: dict[str, list[float]] = {}
    zoos = zoos_in(options.zoo)
    for zoo in zoos:
        for kind, lora in _loras(zoo):
            found.setdefault(kind, []).append(one_person_p(directions(lora), people))
    kinds: dict[str, dict[str, Any]] = {
        kind: {
            "taken for merged": share([POLICY.merged(p) for p in values]),
            "p": [min(values), max(values)],
        }
        for kind, values in found.items()
    }
    record = {"zoos": len(zoos), "calibration": len(people), "kinds": kinds}
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for kind, row in kinds.items():
        taken = "{:.0f} of {:.0f} [{:.3f}, {:.3f}]".format(*row["taken for merged"])
        print(f"{kind}: {taken}, p {row['p'][0]:.4f} to {row['p'][1]:.4f}")


def _loras(zoo: Zoo) -> Iterator[tuple[str, LoRA]]:
    """Yield `(kind, LoRA)`; the rest of a pass that is too small for a merge stays out."""
    size = zoo.plan.people_per_pass
    for first in range(0, len(zoo.members), size):
        terms = _unet(zoo.terms(first, zoo.plan.snapshots[-1]))
        yield from ((ONE, lora) for lora in _each(terms))
        yield from (("2 merged, 7 to 3", lora) for lora in _each(uneven(terms)))
        for each in (2, 4, MERGE):
            for lora in _each(merged(terms, each)):
                yield f"{each} merged", lora
                yield from ((f"{each} merged, cut to rank {rank}", cut(lora, rank)) for rank in CUT)
            yield from ((f"{each} merged, factors added", lora) for lora in _each(added(terms, each)))


def _unet(terms: Terms) -> Terms:
    return {site: pair for site, pair in terms.items() if site.startswith("unet.")}


def _each(terms: Terms) -> Iterator[LoRA]:
    return (as_lora(terms, row) for row in range(len(next(iter(terms.values()))[0])))


def uneven(terms: Terms) -> Terms:
    """Merge every two LoRAs of `terms` into one, by the weights `UNEVEN`."""
    pairs = {}
    for site, (up, down) in terms.items():
        even = len(up) // 2 * 2
        weight = torch.tensor(UNEVEN).repeat(even // 2)[:, None, None]
        # `merged` takes the mean of two.
        pairs[site] = 2 * weight * up[:even], down[:even]
    return merged(pairs, 2)


def added(terms: Terms, each: int) -> Terms:
    """Merge every `each` LoRAs of `terms` by adding their factors, so that the rank stays."""

    def sums(matrix: torch.Tensor) -> torch.Tensor:
        count = len(matrix) // each
        # Both factors have the root of the weight, as kohya's scripts give it.
        groups = matrix[: count * each].view(count, each, *matrix.shape[1:])
        return groups.sum(1) / math.sqrt(each)

    return {site: (sums(up), sums(down)) for site, (up, down) in terms.items()}


def cut(lora: LoRA, rank: int) -> LoRA:
    """Cut `lora` to the nearest LoRA of at most `rank`, module by module, in the spectral norm."""
    factors = {}
    for site, one in lora.factors.items():
        up, values, down = np.linalg.svd(one.up @ one.down, full_matrices=False)
        factors[site] = Factors(up[:, :rank] * values[:rank], down[:rank], 1.0)
    return dataclasses.replace(lora, factors=factors)


if __name__ == "__main__":
    in_one_line(main)

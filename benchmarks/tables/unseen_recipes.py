"""The encoder's loss of accepted pictures on ranks and sets of modules outside its training.

    python -m models.recipes.varied_zoos runs/unseen --held-out --split private --first 1400 --people 12
    python -m models.recipes.varied_zoos runs/seen --neighbours --split private --first 1400 --people 12
    python -m benchmarks.tables.unseen_recipes --unseen runs/unseen --seen runs/seen --out runs/unseen.json

Both folders hold LoRAs of the same people, set by set, under recipes that differ in ranks and modules alone.
A difference is therefore not one of people, steps or prompts. A set's *share* is the encoder's accepted
pictures relative to those of the secret prompt under the same guidance and seeds. The *loss* is the relative
shortfall of a new set's share from its neighbour's. Intervals are 95 %, by a bootstrap over people, each
with both LoRAs.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from loraudit.attacks.plan import draw
from loraudit.base.load import load_base
from loraudit.base.model import Base, Sampling
from loraudit.bench.panel import Panel
from loraudit.cli.failures import in_one_line
from loraudit.encoder import Encoder, frozen_transformer, load_encoder
from loraudit.errors import LorauditError
from loraudit.training.zoo import Zoo, open_varied

__all__ = ["accepted_by", "losses", "main"]

RESAMPLES: Final = 4000
SAMPLING: Final = Sampling(12, 3.0)
CONDITIONS: Final = ("secret prompt", "encoder")

Accepted = NDArray[np.float64]
"""Share of the pictures of each person that pass, `[conditions, M]`."""


def main(arguments: list[str] | None = None) -> None:
    """Parse the arguments, measure, write the record to `--out` and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--unseen", type=Path, required=True)
    parser.add_argument("--seen", type=Path, required=True)
    parser.add_argument("--encoder", default="probe-tiny")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    unseen_zoos, seen_zoos = open_varied(options.unseen), open_varied(options.seen)
    pairs = list(zip(unseen_zoos, seen_zoos, strict=False))
    if (
        not pairs
        or len(unseen_zoos) != len(seen_zoos)
        or any(new.plan.people != old.plan.people for new, old in pairs)
    ):
        raise LorauditError(
            "the two folders are not of the same people, set by set", "build both with one --first"
        )
    base = load_base("tiny")
    encoder, checkpoint = load_encoder(
        options.encoder, frozen_transformer(base.text_encoder), base.embedding_shape[0]
    )
    found = []
    for pair in pairs:
        found.append([accepted_by(base, zoo, encoder, options.samples) for zoo in pair])
        print(f"{pair[0].folder.name}: done", file=sys.stderr, flush=True)
    unseen, seen = ([row[side] for row in found] for side in (0, 1))
    record = {
        "encoder": checkpoint.sha256,
        "people of a set": len(pairs[0][0].plan.people),
        "samples": options.samples,
        "sets": [
            {side: _told(zoo, row) for side, zoo, row in zip(("unseen", "seen"), pair, rows, strict=True)}
            for pair, rows in zip(pairs, found, strict=True)
        ],
        **losses(unseen, seen),
    }
    text = json.dumps(record, indent=1) + "\n"
    options.out.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


@torch.no_grad()
def accepted_by(base: Base, zoo: Zoo, encoder: Encoder, samples: int) -> Accepted:
    """Measure the accepted share of every member of a zoo of one pass, under `CONDITIONS`.

    All pictures are by model guidance.
    """
    terms = zoo.terms(0, zoo.plan.snapshots[-1])
    count = len(zoo.members)
    panel, owners = Panel.of([member.identity for member in zoo.members], 2), torch.arange(count)
    tuned = base.with_lora(terms)
    secret = tuned.encode_text([member.prompt for member in zoo.members])
    shares = []
    for embedding in (secret, encoder(terms)[0]):
        pictures = draw(tuned, base, embedding, range(samples), SAMPLING, against_base=True)
        seen = panel.look(pictures.view(count, samples, *pictures.shape[1:]))
        shares.append(panel.accepted(seen, owners).double().mean(1).numpy())
    return np.stack(shares)


def losses(unseen: list[Accepted], seen: list[Accepted]) -> dict[str, Any]:
    """Compute the shares of new sets and neighbours and the relative loss, each a mean over the sets."""
    rng = np.random.default_rng(0)
    sizes = [row.shape[1] for row in unseen]
    draws = [[rng.integers(n, size=n) for n in sizes] for _ in range(RESAMPLES)]
    whole = [np.arange(n) for n in sizes]

    def shares(rows: list[Accepted], picks: list[NDArray[np.int64]]) -> float:
        means = [row[:, pick].mean(1) for row, pick in zip(rows, picks, strict=True)]
        return float(np.mean([got / max(bound, 1e-9) for bound, got in means]))

    def loss(picks: list[NDArray[np.int64]]) -> float:
        return 1 - shares(unseen, picks) / max(shares(seen, picks), 1e-9)

    return {
        "share, unseen": _interval(shares(unseen, whole), [shares(unseen, picks) for picks in draws]),
        "share, seen": _interval(shares(seen, whole), [shares(seen, picks) for picks in draws]),
        "loss": _interval(loss(whole), [loss(picks) for picks in draws]),
    }


def _interval(value: float, resampled: list[float]) -> dict[str, float]:
    low, high = np.quantile(resampled, (0.025, 0.975))
    return {"value": value, "low": float(low), "high": float(high)}


def _told(zoo: Zoo, accepted: Accepted) -> dict[str, Any]:
    recipe = zoo.plan.recipe
    return {
        "rank": recipe.rank,
        "modules": list(recipe.unet_targets),
        **dict(zip(CONDITIONS, accepted.mean(1).tolist(), strict=True)),
        "share": float(accepted[1].mean() / max(accepted[0].mean(), 1e-9)),
    }


if __name__ == "__main__":
    in_one_line(main)

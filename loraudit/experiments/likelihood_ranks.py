"""Whether the likelihood test knows the person of a LoRA, and takes no stranger for them.

    python -m loraudit.experiments.likelihood_ranks --zoo runs/zoo-private --out runs/likelihood.json

For every LoRA, photos of its person that it was not made of, and those of the next LoRA's person: p-values
among the decoys that ship, at the embedding that the search finds without an encoder.
"""

import argparse
import json
import sys
from pathlib import Path

import torch

from loraudit.attacks.likelihood import LikelihoodTest, read_decoys
from loraudit.attacks.search import SearchAttack
from loraudit.base import load_base
from loraudit.cards import models_dir
from loraudit.experiments.verdict import auroc, share
from loraudit.failing import in_one_line
from loraudit.training.data import REFERENCES, portraits
from loraudit.training.zoo import open_zoo

__all__ = ["main"]

PHOTOS = 3


def main(arguments: list[str] | None = None) -> None:
    """Parse, run, write `--out` and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--people", type=int, default=48, help="at most one pass of the zoo at a time")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    base, zoo = load_base("tiny"), open_zoo(options.zoo)
    decoys, _ = read_decoys(models_dir() / "decoys-tiny")
    members = zoo.members[: options.people]
    photos = [base.encode_images(portraits(m.identity, REFERENCES.start, PHOTOS)) for m in members]
    found: dict[str, list[float]] = {"own": [], "stranger": []}
    for row, member in enumerate(members):
        terms = zoo.rows([(member.index, zoo.plan.snapshots[-1])])
        embedding = SearchAttack().best(base, terms).embeddings[0]
        for who, own in (("own", photos[row]), ("stranger", photos[(row + 1) % len(members)])):
            found[who].append(LikelihoodTest(own, decoys).run(base, terms, embedding).p_value)
        print(f"{row + 1} of {len(members)}", file=sys.stderr, flush=True)
    record = {
        "people": len(members),
        "photos": PHOTOS,
        "decoys": len(decoys),
        "auroc": vars(auroc([-p for p in found["own"]], [-p for p in found["stranger"]])),
        **{
            f"{who}, p <= {level:g}": share([p <= level + 1e-9 for p in values])
            for who, values in found.items()
            for level in (0.01, 0.05)
        },
    }
    text = json.dumps(record, indent=1) + "\n"
    options.out.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


if __name__ == "__main__":
    in_one_line(main)

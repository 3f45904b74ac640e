"""Build a zoo of synthetic people of any split; an interrupted build goes on where it stopped.

    python -m loraudit.training.build_zoo runs/zoo-private --split private --people 64 --steps 200

`loraudit train-encoder --zoo DIR` builds zoos of public people by itself.
"""

import argparse
import dataclasses
from pathlib import Path

import torch

from loraudit.progress import progress
from loraudit.training.jobs import base_recipe, prior_latents, quarters, training_base
from loraudit.training.people import FAMILY, SPLITS
from loraudit.training.zoo import Plan, Zoo, build_zoo

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> Zoo:
    """Parse and build."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--base", default="tiny")
    parser.add_argument("--split", choices=list(SPLITS), default="public-train")
    parser.add_argument("--people", type=int, default=256)
    parser.add_argument("--first", type=int, default=0, help="families of look-alikes to skip")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--text-lr", type=float, help="of the text encoder")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--rank", type=int)
    parser.add_argument("--snapshots", type=int, nargs="+")
    parser.add_argument("--pass", type=int, default=32, dest="people_per_pass")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    base = training_base(options.base, None, offline=False)
    changes = {name: getattr(options, name) for name in ("steps", "lr", "text_lr", "batch", "rank")}
    recipe = dataclasses.replace(base_recipe(base), **{k: v for k, v in changes.items() if v is not None})
    # One of each family, so that no two are look-alikes by design.
    people = tuple(SPLITS[options.split][FAMILY * (options.first + i)] for i in range(options.people))
    snapshots = tuple(options.snapshots or quarters(recipe))
    plan = Plan(people, recipe, snapshots, options.people_per_pass, options.seed)
    prior = prior_latents(base, recipe)
    with progress("building the zoo") as report:
        return build_zoo(base, options.folder, plan, prior, report)


if __name__ == "__main__":
    main()

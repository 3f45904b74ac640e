"""Build a zoo of synthetic people of any split; an interrupted build goes on where it stopped.

    python -m models.recipes.zoo runs/zoo-private --split private --people 64 --steps 200
    python -m models.recipes.zoo runs/crowds --data crowds --split control --people 64 --pictures 20

LoRAs of things, crowds and styles (`loraudit.people.things`) hold no private identity.

`loraudit train-encoder --zoo DIR` builds zoos of public people by itself.
"""

import argparse
import dataclasses
from pathlib import Path

import torch

from loraudit.cli.failures import in_one_line
from loraudit.cli.progress import progress
from loraudit.people.identity import SPLITS
from loraudit.people.sources import PICTURES, Synthetic
from loraudit.people.things import SOURCES, subjects
from loraudit.training.defaults import base_recipe, prior_latents, quarters, training_base
from loraudit.training.zoo import Zoo, build_zoo
from loraudit.training.zoo_plan import Plan

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> Zoo:
    """Parse the arguments and build the zoo."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--base", default="tiny")
    parser.add_argument("--data", choices=list(SOURCES), default=Synthetic.name)
    parser.add_argument("--split", choices=list(SPLITS), default="public-train")
    parser.add_argument("--people", type=int, default=256, help="number of people, things, crowds or styles")
    parser.add_argument(
        "--first", type=int, default=0, help="number of families, things, crowds or styles to skip"
    )
    parser.add_argument("--pictures", type=int, default=PICTURES, help="pictures per LoRA")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--text-lr", type=float, help="learning rate of the text encoder")
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
    source = SOURCES[options.data](options.split)
    people = subjects(options.data, options.split, options.first, options.people)
    snapshots = tuple(options.snapshots or quarters(recipe))
    plan = Plan(
        people, recipe, snapshots, options.people_per_pass, options.seed, source.name, options.pictures
    )
    with progress("building the zoo") as report:
        prior = prior_latents(base, recipe, report)
        return build_zoo(base, options.folder, plan, prior, report, source)


if __name__ == "__main__":
    in_one_line(main)

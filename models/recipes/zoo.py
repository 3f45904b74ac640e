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

from loraudit.base.model import Base
from loraudit.cli.failures import in_one_line
from loraudit.cli.progress import progress
from loraudit.people.identity import SPLITS
from loraudit.people.sources import PICTURES, Synthetic
from loraudit.people.things import SOURCES, subjects
from loraudit.training.defaults import base_recipe, prior_latents, quarters, training_base
from loraudit.training.finetune import Recipe
from loraudit.training.people_a_pass import people_a_pass
from loraudit.training.zoo import Zoo, build_zoo
from loraudit.training.zoo_plan import RECORD, Plan, read_plan

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
    parser.add_argument(
        "--pass", type=int, dest="people_per_pass", help="people a pass; by memory if left out"
    )
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
    together = options.people_per_pass or _together(base, recipe, options.folder)
    plan = Plan(people, recipe, snapshots, together, options.seed, source.name, options.pictures)
    with progress("building the zoo") as report:
        prior = prior_latents(base, recipe, report)
        return build_zoo(base, options.folder, plan, prior, report, source)


def _together(base: Base, recipe: Recipe, folder: Path) -> int:
    """Count the people a pass: those of a zoo that was begun, else by memory."""
    return read_plan(folder)[0].people_per_pass if (folder / RECORD).exists() else people_a_pass(base, recipe)


if __name__ == "__main__":
    in_one_line(main)

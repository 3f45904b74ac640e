"""Build zoos of varied recipes; an interrupted build goes on where it stopped.

    python -m models.recipes.varied_zoos runs/varied --split public-train --recipes 20 --people 16
    python -m models.recipes.varied_zoos runs/crowds --data crowds --split private --pictures 20

Several processes can share the work: `--share 0/2` and `--share 1/2`.
"""

import argparse
from pathlib import Path

import torch

from loraudit.cli.failures import in_one_line
from loraudit.cli.progress import progress
from loraudit.people.identity import SPLITS
from loraudit.people.sources import Synthetic
from loraudit.people.things import SOURCES, subjects
from loraudit.training.defaults import prior_latents, training_base
from loraudit.training.finetune import TINY
from loraudit.training.varied import TARGETS, USUAL
from loraudit.training.zoo import build_zoo
from models.recipes.varied import ANY, HELD_OUT, NEIGHBOURS, held_out_plans, varied_plans

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Parse the arguments and build the zoos."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--base", default="tiny")
    parser.add_argument("--data", choices=list(SOURCES), default=Synthetic.name)
    parser.add_argument("--pictures", type=int, help="pictures per LoRA, whatever the recipe says")
    parser.add_argument("--split", choices=list(SPLITS), default="public-train")
    parser.add_argument("--recipes", type=int, default=20)
    parser.add_argument("--people", type=int, default=16, help="people per recipe")
    parser.add_argument("--first", type=int, default=0, help="families of look-alikes to skip")
    parser.add_argument(
        "--targets",
        nargs="+",
        choices=[*TARGETS, ANY],
        default=USUAL,
        help="sets of modules to draw from; named more than once, a set is drawn more often",
    )
    parser.add_argument(
        "--held-out", action="store_true", help="build the ranks and targets that are never drawn instead"
    )
    parser.add_argument(
        "--neighbours", action="store_true", help="build the nearest drawn neighbours of those instead"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", default="0/1", help="i/n: build only every n-th zoo, from the i-th on")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    base = training_base(options.base, None, offline=False)
    sets = HELD_OUT if options.held_out else NEIGHBOURS if options.neighbours else ()
    recipes = len(sets) or options.recipes
    count = recipes * options.people
    people = subjects(options.data, options.split, options.first, count)
    source = SOURCES[options.data](options.split)
    if sets:
        plans = held_out_plans(people, options.seed, sets)
    else:
        plans = varied_plans(
            people,
            recipes,
            options.seed,
            targets=options.targets,
            data=source.name,
            pictures=options.pictures,
        )
    start, step = (int(part) for part in options.share.split("/"))
    with progress("class pictures") as report:
        prior = prior_latents(base, TINY, report)
    for number in range(start, len(plans), step):
        with progress(f"recipe {number + 1} of {len(plans)}") as report:
            folder = options.folder / f"recipe-{number:02d}"
            # The title names the recipe, which tells more than the stage.
            build_zoo(
                base, folder, plans[number], prior, lambda done, all_, _: report(done, all_, ""), source
            )


if __name__ == "__main__":
    in_one_line(main)

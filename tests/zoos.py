"""Zoos of next to no training, for tests of what reads zoos."""

from dataclasses import replace
from pathlib import Path

from loraudit.base.model import Base
from loraudit.people.identity import SPLITS
from loraudit.people.things import Crowds
from loraudit.training.finetune import TINY, TINY_PRIOR, class_latents
from loraudit.training.zoo import build_zoo
from loraudit.training.zoo_plan import Plan


def make_zoos(base: Base, folder: Path) -> Path:
    """Make zoos `people` and `crowds` in `folder`: two LoRAs each, fine-tuned for two steps."""
    recipe = replace(TINY, steps=2, batch=1)
    prior = class_latents(base, recipe, 2, TINY_PRIOR)
    first = SPLITS["private"].start
    people = Plan((first + 4, first + 8), recipe, (1, 2), people_per_pass=2)
    build_zoo(base, folder / "people", people, prior)
    crowds = Plan((first, first + 1), recipe, (2,), people_per_pass=2, data="crowds", pictures=4)
    build_zoo(base, folder / "crowds", crowds, prior, people=Crowds("private"))
    return folder

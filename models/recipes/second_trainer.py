"""LoRAs by a second trainer, independent of `loraudit.training`, as zoos that every table reads.

    python -m models.recipes.second_trainer --out runs/second --people 16 --split private
    python -m models.recipes.second_trainer --out runs/second --people 16 --kinds crowds things styles

`OUT/<kind>/<recipe>/loras/000.safetensors ...` are the files as their public script would leave them;
`models.recipes.second_recipes` has the recipes, `models.recipes.second_lessons` the kinds. Beside the files
is the zoo (`loraudit.training.zoo`) that `loraudit bench` reads, made by reading those files as a scan reads
any file. `second.json` holds recipe, base and versions, and is written before the first LoRA. A LoRA whose
file exists is not trained again, so an interrupted build goes on and ends with the same files. Several
processes can share the work: `--share 0/2` and `--share 1/2`.
"""

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Final

import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

from loraudit.base.load import load_base
from loraudit.base.model import Base
from loraudit.cards import base_card
from loraudit.cli.failures import in_one_line
from loraudit.cli.progress import progress
from loraudit.errors import LorauditError
from loraudit.lora import load_lora
from loraudit.people.identity import SPLITS
from loraudit.people.things import subjects
from loraudit.runs import OnStep, Run, unheard
from loraudit.training.finetune import Recipe
from loraudit.training.zoo import fingerprint
from loraudit.training.zoo_plan import RECORD, Member, Plan, members_of
from loraudit.version import DECISIVE, versions
from models.recipes.second_files import kohya_metadata, write_lora
from models.recipes.second_lessons import KINDS, shown_by, template_of, trigger_of
from models.recipes.second_recipes import RECIPES
from models.recipes.second_tuning import Lesson, Posterior, class_pictures, encode, open_pipeline, tune

__all__ = ["MIXED", "Workshop", "build", "main", "plan_of"]

MIXED: Final = "mixed"
"""Name for all recipes, which share the people evenly."""


@dataclass(frozen=True, eq=False)
class Workshop:
    """Base that LoRAs are trained on, as a stock pipeline, and as loraudit loads it."""

    pipeline: StableDiffusionPipeline
    base: Base
    folder: Path

    @classmethod
    def of(cls, name: str) -> "Workshop":
        """Open a base of the list that is a folder, or the diffusers pipeline in the folder `name`.

        Raises `LorauditError` for a base of the list that is not in a folder.
        """
        folder = Path(name) if Path(name).is_dir() else base_card(name).folder
        if folder is None:
            raise LorauditError(f"the base {name} is no folder", "name a diffusers folder")
        return cls(open_pipeline(folder), load_base(name), folder)

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint of the base in the record of a zoo."""
        return fingerprint(self.base)


@cache
def _prior(shop: Workshop, prompt: str) -> Posterior:
    """Draw the class pictures of the prompt."""
    card = shop.base.card
    return encode(shop.pipeline, class_pictures(shop.pipeline, prompt, card.steps, card.guidance))


def plan_of(name: str, kind: str, people: Sequence[int], seed: int) -> Plan:
    """Describe a zoo of the recipe `name` in the words of `zoo.json`."""
    recipe = RECIPES[name]
    described = Recipe(
        unet_targets=recipe.targets,
        text_targets=recipe.text_targets,
        rank=recipe.rank,
        unet_alpha=recipe.alpha,
        text_alpha=recipe.alpha,
        lr=recipe.rate,
        text_lr=recipe.text_rate or None,
        steps=recipe.steps,
        batch=1,
        prior_weight=recipe.prior,
        class_prompt=recipe.class_prompt,
    )
    return Plan(
        tuple(people),
        described,
        (recipe.steps,),
        seed=seed,
        data=KINDS[kind],
        pictures=recipe.pictures,
        template=template_of(recipe, kind),
        names=tuple(trigger_of(recipe, who, seed) for who in people),
    )


def build(
    shop: Workshop,
    folder: Path,
    name: str,
    kind: str,
    people: Sequence[int],
    seed: int,
    share: tuple[int, int] = (0, 1),
    on_step: OnStep = unheard,
) -> None:
    """Build what is missing of the zoo of recipe `name` in `folder`; with a share `(i, n)` every n-th LoRA.

    Raises `LorauditError` if the folder holds a zoo of another recipe, plan or base, or by other versions.
    """
    recipe, run, plan = RECIPES[name], Run(folder), plan_of(name, kind, people, seed)
    zoo = {**asdict(plan), "base": shop.fingerprint}
    about = {"recipe": name, "kind": kind, **asdict(recipe), "zoo": zoo}
    record = json.dumps({**about, "versions": versions((*DECISIVE, "peft"))}, indent=2) + "\n"
    run.begin("second.json", record, lambda old: "" if old == record else "LoRAs of other settings")
    run.write(RECORD, json.dumps(zoo, indent=2) + "\n")
    (folder / "loras").mkdir(exist_ok=True)
    members = members_of(plan)
    missing = [m for m in members[share[0] :: share[1]] if not (folder / _file(m)).exists()]
    for number, member in enumerate(missing):
        on_step(len(members) - len(missing) + number, len(members), "")
        shown = shown_by(member, kind, recipe, seed, shop.base.image_size)
        own = seed_of(name, kind, member.identity, seed)
        prior = _prior(shop, recipe.class_prompt) if recipe.prior else None
        lesson = Lesson(encode(shop.pipeline, shown.pictures), shown.captions, prior, own)
        tuned = tune(shop.pipeline, recipe, lesson)
        about = kohya_metadata(recipe, shop.base.name, shop.base.image_size, own, shown.captions)
        run.keep(_file(member), partial(write_lora, tuned, recipe, about))
    on_step(len(members), len(members), "")
    size = plan.people_per_pass
    for first in range(0, len(members), size):
        group, target = members[first : first + size], f"pass-{first // size:04d}.safetensors"
        if all((folder / _file(m)).exists() for m in group) and not (folder / target).exists():
            run.keep(target, partial(_gather, folder, group, recipe.steps))


def seed_of(name: str, kind: str, person: int, seed: int) -> int:
    """Derive the seed of a LoRA from recipe, kind, person and the zoo's seed."""
    digest = hashlib.sha256(f"{name} {kind} {person} {seed}".encode()).digest()
    return int.from_bytes(digest[:4])


def _file(member: Member) -> str:
    return f"loras/{member.index:03d}.safetensors"


def _gather(folder: Path, group: Sequence[Member], step: int, target: Path) -> None:
    """Read the files of `group` as a scan reads them, and write them as one pass of a zoo."""
    read = [load_lora(str(folder / _file(member))).factors for member in group]
    tensors = {}
    for site in read[0]:
        tensors[f"{step:06d}/{site}.up"] = torch.stack([torch.from_numpy(one[site].up) for one in read])
        tensors[f"{step:06d}/{site}.down"] = torch.stack([torch.from_numpy(one[site].down) for one in read])
    save_file(tensors, target)


def main(arguments: list[str] | None = None) -> None:
    """Parse the arguments and build a zoo for each recipe."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="tiny", help="a base that is a folder, by name or path")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", choices=[*RECIPES, MIXED], default=MIXED)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=["people"])
    parser.add_argument("--people", type=int, default=16, help="LoRAs of each kind, over all recipes")
    parser.add_argument("--split", choices=list(SPLITS), default="private")
    parser.add_argument(
        "--first", type=int, default=0, help="number of families, things, crowds or styles to skip"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", default="0/1", help="i/n: train only every n-th LoRA, from the i-th on")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    shop = Workshop.of(options.base)
    names = list(RECIPES) if options.recipe == MIXED else [options.recipe]
    share, shares = (int(part) for part in options.share.split("/"))
    zoos = []
    for kind in options.kinds:
        people = subjects(KINDS[kind], options.split, options.first, options.people)
        for number, name in enumerate(names):
            mine = people[number * len(people) // len(names) : (number + 1) * len(people) // len(names)]
            if mine:
                zoos.append((kind, name, mine))
    total = sum(len(people) for _, _, people in zoos)
    with progress("LoRAs by the second trainer") as report:
        for number, (kind, name, mine) in enumerate(zoos):
            before = sum(len(people) for _, _, people in zoos[:number])
            heard = partial(_in_all, report, before, total)
            build(shop, options.out / kind / name, name, kind, mine, options.seed, (share, shares), heard)


def _in_all(report: OnStep, before: int, total: int, done: int, _all: int, _stage: str) -> None:
    """Report the LoRAs done in a zoo as so many of all zoos."""
    report(before + done, total, "")


if __name__ == "__main__":
    in_one_line(main)

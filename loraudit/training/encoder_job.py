"""What `loraudit train-encoder` does, once its options are parsed."""

import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate import PartialState
from torch.nn import functional

from loraudit.base.model import Base
from loraudit.cli.failures import interruptible
from loraudit.cli.progress import progress
from loraudit.encoder import ProbeEncoder, frozen_transformer
from loraudit.errors import LorauditError
from loraudit.people.folders import open_people
from loraudit.people.sources import People
from loraudit.scores.scorers import open_face
from loraudit.text import clean
from loraudit.training import train_encoder as training
from loraudit.training.defaults import base_recipe, prior_latents, quarters, training_base
from loraudit.training.encoder_card import finish
from loraudit.training.finetune import Recipe, new_adapters
from loraudit.training.reader import fit_reader
from loraudit.training.samples import LiveSource, Source, VariedSource, ZooSource, require_trainable
from loraudit.training.train_encoder import Settings, new_constant, new_encoder, new_probe, train_encoder
from loraudit.training.varied import open_varied
from loraudit.training.zoo import (
    RECORD,
    Plan,
    Zoo,
    build_zoo,
    fingerprint,
    is_finished,
    members_of,
    open_zoo,
    person,
    read_plan,
)

__all__ = ["EncoderJob", "Interrupted", "train_an_encoder"]


class Interrupted(LorauditError):
    """Ctrl-C in a job that goes on where it stopped."""

    exit_code: ClassVar[int] = 130


@dataclass(frozen=True)
class EncoderJob:
    """What `train-encoder` was asked for; None takes the default of the base or of the zoo."""

    data: str
    zoo: Path | None
    out: Path
    recipe: Mapping[str, Any]
    """Changes to the base's recipe of fine-tuning."""
    settings: Mapping[str, Any]
    """Changes to the base's settings."""
    people: int | None = None
    snapshots: tuple[int, ...] | None = None
    timestep: bool = True
    arch: str = "paper"
    """`paper`, `probe`, or `constant` for the baseline that reads nothing."""
    command: Sequence[str] = ()
    """The words of the command line, for the card."""


def train_an_encoder(base_name: str, device: str | None, offline: bool, job: EncoderJob) -> None:
    """Train the encoder that `job` describes, or go on where an interrupted training stopped.

    Raises `LorauditError` if `job.out` holds a finished encoder or another training, or the data do not fit;
    `Interrupted` on Ctrl-C.
    """
    if any((job.out / name).exists() for name in ("config.json", "embedding.npy")):
        raise LorauditError(
            f"{clean(job.out.name)} holds a trained encoder already",
            "name another folder with --out, or delete it",
        )
    people = open_people(job.data)
    cpu = device == "cpu" or (device is None and not torch.cuda.is_available())
    state = PartialState(cpu=cpu)
    base = training_base(base_name, device or str(state.device), offline)
    settings = dataclasses.replace(_settings(base, job.arch), **job.settings)
    try:
        with interruptible():
            source, recipe, about = _source(base, people, job, settings, state)
            if job.arch == "constant":
                model: Any = new_constant(base, recipe.class_prompt)
            elif job.arch == "probe":
                model, source = _probe(base, source, people, recipe, settings.seed)
            else:
                # Any LoRA of the recipe has the shapes; the matrices of this one are not looked at.
                shapes = new_adapters(base, recipe, [0]).terms()
                model = new_encoder(base, shapes, job.timestep, recipe.steps, settings.seed)
            described = {
                "base": base.name,
                "base_sha256": fingerprint(base),
                "data": people.name,
                **about,
                "recipe": dataclasses.asdict(recipe),
                "timestep": job.timestep,
                "arch": job.arch,
            }
            train_encoder(base, source, model, settings, job.out, described)
    except KeyboardInterrupt:
        raise Interrupted("interrupted", "the same command goes on where this one stopped") from None
    if state.is_main_process:
        record = {**dataclasses.asdict(settings), **described, "processes": state.num_processes}
        frozen = frozen_transformer(base.text_encoder)
        finish(job.out, model, frozen, base.name, json.loads(json.dumps(record)), job.command)


def _settings(base: Base, arch: str) -> Settings:
    if arch == "paper":
        return training.TINY if base.card.recipe == "tiny" else training.PAPER
    if base.card.recipe != "tiny":
        return training.PAPER_PROBE
    return training.TINY_CONSTANT if arch == "constant" else training.TINY_PROBE


def _probe(
    base: Base, source: Source, people: People, recipe: Recipe, seed: int
) -> tuple[ProbeEncoder, VariedSource]:
    """A probe encoder that reads, and a source that tells it what is read of people it does not know."""
    if not isinstance(source, VariedSource | ZooSource):
        raise LorauditError("the probe encoder is trained on a zoo", "name one with --zoo")
    sources = source.sources if isinstance(source, VariedSource) else [source]
    sys.stderr.write("reading the zoo\n")
    face = open_face(base.card.face, base.device, offline=False)[1]

    def vector(identity: int) -> torch.Tensor:
        seen = face.embed(people.pictures(identity, base.image_size)).vectors
        return functional.normalize(seen.mean(0), dim=0)

    faces = [torch.stack([vector(member.identity) for member in one.zoo.members]) for one in sources]
    model = new_probe(base, recipe.class_prompt, recipe.steps, faces[0].shape[1], seed)
    told = fit_reader(model, [one.zoo for one in sources], faces)
    return model, VariedSource(
        [dataclasses.replace(one, faces=read) for one, read in zip(sources, told, strict=True)], seed
    )


def _check_folder(out: Path) -> None:
    """Raise `LorauditError` where no folder `out` can be, before hours go into what belongs there."""
    there = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise LorauditError(f"cannot write {clean(str(out), 300)}", "choose another folder with --out")


def _source(
    base: Base, people: People, job: EncoderJob, settings: Settings, state: PartialState
) -> tuple[Source, Recipe, dict[str, Any]]:
    """Where the samples come from, the recipe of its LoRAs, and what to say of it."""
    recipe = dataclasses.replace(base_recipe(base), **job.recipe)
    if job.zoo is not None and (zoos := open_varied(job.zoo)):
        sources = [
            ZooSource.of(base, zoo, settings.seed + i, settings.loras, not job.timestep, people)
            for i, zoo in enumerate(zoos)
        ]
        about = {
            "source": f"{len(zoos)} zoos",
            "people": sum(len(zoo.members) for zoo in zoos),
            "recipes": [dataclasses.asdict(zoo.plan.recipe) for zoo in zoos],
        }
        return VariedSource(sources, settings.seed), recipe, about
    if job.zoo is not None:
        _check_folder(job.out)
        with state.main_process_first():
            zoo = open_or_build(base, people, job.zoo, recipe, job, settings.seed)
        source = ZooSource.of(base, zoo, settings.seed, settings.loras, not job.timestep, people)
        plan = zoo.plan
        about = {"source": "zoo", "people": len(plan.people), "snapshots": list(plan.snapshots)}
        return source, plan.recipe, about
    chosen = people.train(job.people, settings.seed)
    plan = Plan(chosen, recipe, (recipe.steps,), seed=settings.seed, data=people.name)
    subjects = [person(base, member, member.index, people) for member in members_of(plan)]
    live = LiveSource(
        base, subjects, recipe, prior_latents(base, recipe), settings.loras, settings.seed, not job.timestep
    )
    return live, recipe, {"source": "live", "people": len(chosen)}


def open_or_build(
    base: Base, people: People, folder: Path, recipe: Recipe, job: EncoderJob, seed: int
) -> Zoo:
    """The zoo in `folder`; what is missing is built as its record says or, without one, as `job` says."""
    if (folder / RECORD).exists():
        plan, _ = read_plan(folder)
        wanted = {"people": job.people, "snapshots": job.snapshots, **job.recipe}
        found = {
            "people": len(plan.people),
            "snapshots": plan.snapshots,
            **{name: getattr(plan.recipe, name) for name in job.recipe},
        }
        other = [name for name, value in wanted.items() if value is not None and value != found[name]]
        if other:
            raise LorauditError(
                f"the zoo {clean(folder.name)} has {other[0].replace('_', ' ')} {found[other[0]]}, "
                f"not {wanted[other[0]]}",
                "leave the option out, or name another folder with --zoo",
            )
        require_trainable(plan, people)
        if is_finished(folder, plan):
            return open_zoo(folder)
    else:
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise LorauditError(
                f"{clean(folder.name)} holds no zoo, but other things",
                "name the folder of a zoo with --zoo, or a new one to build it in",
            )
        chosen = people.train(job.people, seed)
        plan = Plan(chosen, recipe, job.snapshots or quarters(recipe), seed=seed, data=people.name)
    prior = prior_latents(base, plan.recipe)
    with progress("building the zoo") as report:
        return build_zoo(base, folder, plan, prior, report, people)

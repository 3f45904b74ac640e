"""The job behind `loraudit train-encoder`, from parsed options to an encoder with its card."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import PartialState
from torch.nn import functional

from loraudit.base.lowrank import Terms
from loraudit.base.model import Base
from loraudit.encoder import ProbeEncoder, frozen_transformer
from loraudit.errors import LorauditError
from loraudit.people.folders import open_people
from loraudit.people.sources import People
from loraudit.runs import OnStep, Run, unheard
from loraudit.scores.scorers import open_face
from loraudit.text import clean
from loraudit.training import encoder_settings
from loraudit.training.defaults import base_recipe, prior_latents, quarters, training_base
from loraudit.training.encoder_card import finish
from loraudit.training.encoder_settings import Settings
from loraudit.training.finetune import Recipe, new_adapters
from loraudit.training.latents import Latents
from loraudit.training.people_a_pass import people_a_pass
from loraudit.training.public import PublicPeople, gather, open_public
from loraudit.training.reader import fit_reader
from loraudit.training.samples import LiveSource, Source, VariedSource, ZooSource, require_trainable
from loraudit.training.train_encoder import new_constant, new_encoder, new_probe, train_encoder
from loraudit.training.zoo import Zoo, build_zoo, fingerprint, is_finished, open_varied, open_zoo
from loraudit.training.zoo_plan import RECORD, Plan, members_of, read_plan

__all__ = ["EncoderJob", "LeftOut", "train_an_encoder"]


@dataclass(frozen=True)
class EncoderJob:
    """Request of `train-encoder`; None stands for the default of the base or of the zoo."""

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
    public: Path | None = None
    """Folder of public LoRAs with photos, in the place of `data`."""
    arch: str = "paper"
    """`paper`, `probe`, or `constant` for the baseline that reads no LoRA."""
    command: Sequence[str] = ()
    """Words of the command line, for the card."""


class LeftOut(NamedTuple):
    """Sentences on what was not trained on, and why."""

    people: tuple[str, ...]
    """People whose pictures could not be read."""
    loras: tuple[str, ...]
    """Public LoRAs that could not be used."""


def train_an_encoder(
    base_name: str, device: str | None, offline: bool, job: EncoderJob, on_step: OnStep = unheard
) -> LeftOut:
    """Train the encoder that `job` describes, or go on where an interrupted training stopped.

    `on_step` hears the stages: building and reading a zoo, where one is asked for, then the training. Returns
    who and what was left out.

    Raises `LorauditError` if `job.out` holds a finished encoder or another training, or the data do not fit.
    Checks that need no base come before the base is loaded.
    """
    people = _checked(job)
    cpu = device == "cpu" or (device is None and not torch.cuda.is_available())
    state = PartialState(cpu=cpu)
    if not state.is_main_process:
        on_step = unheard
    base = training_base(base_name, device or str(state.device), offline)
    settings = dataclasses.replace(_settings(base, job.arch), **job.settings)
    latents, unused = Latents(base, people), tuple[str, ...]()
    if isinstance(people, PublicPeople) and job.zoo is not None:
        chosen, steps = people.train(job.people, settings.seed), base_recipe(base).steps
        with state.main_process_first():
            unused = gather(base, people, chosen, job.recipe.get("steps", steps), job.zoo, on_step)
    source, recipe, about = _source(latents, job, settings, state, on_step)
    if job.arch == "constant":
        model: Any = new_constant(base, recipe.class_prompt)
    elif job.arch == "probe":
        model, source = _probe(base, source, people, recipe, settings.seed, on_step)
    else:
        shapes = _shapes(base, source, recipe)
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
    train_encoder(base, source, model, settings, job.out, described, on_step=on_step)
    if state.is_main_process:
        record = {**dataclasses.asdict(settings), **described, "processes": state.num_processes}
        frozen = frozen_transformer(base.text_encoder)
        finish(job.out, model, frozen, base.name, json.loads(json.dumps(record)), job.command)
    return LeftOut(tuple(latents.unread.values()), unused)


def _checked(job: EncoderJob) -> People:
    """Open the data of `job`. Raises `LorauditError` for mistakes in `job` that are mistakes on any base."""
    if any((job.out / name).exists() for name in ("config.json", "embedding.npy")):
        raise LorauditError(
            f"{clean(job.out.name)} holds a trained encoder already",
            "name another folder with --output, or delete this one",
        )
    people: People = open_people(job.data) if job.public is None else open_public(job.public)
    dataclasses.replace(encoder_settings.TINY, **job.settings)
    Recipe(**job.recipe)
    Run(job.out).check()
    if job.arch == "probe" and job.zoo is None:
        raise LorauditError("the probe encoder is trained on a zoo", "name one with --zoo")
    if job.public is not None:
        if job.zoo is None:
            raise LorauditError("public LoRAs are kept as a zoo", "name a new folder for it with --zoo")
        if {"rank", "lr"} & set(job.recipe) or job.snapshots:
            raise LorauditError("public LoRAs are trained already", "leave out options of their training")
        people.train(job.people, job.settings.get("seed", 0))
    elif job.zoo is None or not job.zoo.exists():
        people.train(job.people, job.settings.get("seed", 0))
    elif (job.zoo / RECORD).exists():
        _check_zoo(job.zoo, job, people)
    return people


def _settings(base: Base, arch: str) -> Settings:
    if arch == "paper":
        return encoder_settings.TINY if base.card.recipe == "tiny" else encoder_settings.PAPER
    if base.card.recipe != "tiny":
        return encoder_settings.PAPER_PROBE
    return encoder_settings.TINY_CONSTANT if arch == "constant" else encoder_settings.TINY_PROBE


def _probe(
    base: Base, source: Source, people: People, recipe: Recipe, seed: int, on_step: OnStep
) -> tuple[ProbeEncoder, VariedSource]:
    """Make a probe encoder with a fitted reader, and a source whose samples tell held-out readings."""
    if not isinstance(source, VariedSource | ZooSource):
        raise ValueError("a probe encoder needs a zoo")
    sources = source.sources if isinstance(source, VariedSource) else [source]
    face = open_face(base.card.face, base.device, offline=False)[1]
    total = sum(len(one.zoo.members) for one in sources)
    vectors: list[torch.Tensor] = []
    known: dict[int, torch.Tensor] = {}
    for member in (member for one in sources for member in one.zoo.members):
        if member.identity not in known:
            seen = face.embed(people.pictures(member.identity, base.image_size)).vectors
            known[member.identity] = functional.normalize(seen.mean(0), dim=0)
        vectors.append(known[member.identity])
        on_step(len(vectors), total, "looking at the people's faces")
    faces = list(torch.stack(vectors).split([len(one.zoo.members) for one in sources]))
    model = new_probe(base, recipe.class_prompt, recipe.steps, faces[0].shape[1], seed)
    told = fit_reader(model, [one.zoo for one in sources], faces, on_step)
    return model, VariedSource(
        [dataclasses.replace(one, faces=read) for one, read in zip(sources, told, strict=True)], seed
    )


def _shapes(base: Base, source: Source, recipe: Recipe) -> Terms:
    """Return a LoRA of the source, for its shapes.

    Raises `LorauditError` where the zoos of the source have LoRAs of different shapes.
    """
    if not isinstance(source, VariedSource):
        # Every LoRA of the recipe has these shapes; the matrices are not looked at.
        return new_adapters(base, recipe, [0]).terms()
    zoos = [one.zoo for one in source.sources]
    found = [zoo.rows([(0, zoo.plan.snapshots[0])]) for zoo in zoos]
    shapes = {tuple((site, up.shape[2]) for site, (up, _) in sorted(terms.items())) for terms in found}
    if len(shapes) > 1:
        raise LorauditError(
            f"the paper's encoder reads LoRAs of one shape, and there are {len(shapes)} kinds",
            "take --arch probe, which reads any",
        )
    return found[0]


def _source(
    latents: Latents, job: EncoderJob, settings: Settings, state: PartialState, on_step: OnStep
) -> tuple[Source, Recipe, dict[str, Any]]:
    """Open the source of the samples; also return the recipe of its LoRAs and its entries for the record."""
    base, people = latents.base, latents.people
    recipe = dataclasses.replace(base_recipe(base), **job.recipe)
    if job.zoo is not None and (zoos := open_varied(job.zoo)):
        if settings.taught:
            zoos = [zoo for zoo in zoos if all(member.name for member in zoo.members)]
        if not zoos:
            raise LorauditError(
                "the prompts of the LoRAs are not known, and this encoder is taught by them",
                "write the prompt of each LoRA into prompt.txt beside it, or take --arch paper",
            )
        if job.public is not None:
            recipe = dataclasses.replace(recipe, steps=max(zoo.plan.recipe.steps for zoo in zoos))
        sources = [
            ZooSource.of(zoo, latents, settings.seed + i, settings.loras, not job.timestep)
            for i, zoo in enumerate(zoos)
        ]
        about = {
            "source": f"{len(zoos)} zoos",
            "people": len({member.identity for zoo in zoos for member in zoo.members}),
            "files": sum(len(zoo.members) for zoo in zoos),
            "recipes": [dataclasses.asdict(zoo.plan.recipe) for zoo in zoos],
        }
        return VariedSource(sources, settings.seed), recipe, about
    if job.zoo is not None:
        with state.main_process_first():
            zoo = _open_or_build(base, people, job.zoo, recipe, job, settings.seed, on_step)
        source = ZooSource.of(zoo, latents, settings.seed, settings.loras, not job.timestep)
        plan = zoo.plan
        about = {"source": "zoo", "people": len(plan.people), "snapshots": list(plan.snapshots)}
        return source, plan.recipe, about
    chosen = people.train(job.people, settings.seed)
    plan = Plan(chosen, recipe, (recipe.steps,), seed=settings.seed, data=people.name)
    prior = prior_latents(base, recipe, on_step)
    members = members_of(plan)
    live = LiveSource(members, latents, recipe, prior, settings.loras, settings.seed, not job.timestep)
    return live, recipe, {"source": "live", "people": len(chosen)}


def _check_zoo(folder: Path, job: EncoderJob, people: People) -> Plan:
    """Read the plan of the zoo in `folder`. Raises `LorauditError` if the plan is not what `job` asks for."""
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
    return plan


def _open_or_build(
    base: Base, people: People, folder: Path, recipe: Recipe, job: EncoderJob, seed: int, on_step: OnStep
) -> Zoo:
    """Open the zoo in `folder`, and build its missing passes by its plan; without a plan, by `job`."""
    if (folder / RECORD).exists():
        plan = _check_zoo(folder, job, people)
        if is_finished(folder, plan):
            return open_zoo(folder)
    else:
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise LorauditError(
                f"{clean(folder.name)} holds other files and no zoo",
                "name the folder of a zoo with --zoo, or a new one to build it in",
            )
        chosen = people.train(job.people, seed)
        together = people_a_pass(base, recipe)
        plan = Plan(chosen, recipe, job.snapshots or quarters(recipe), together, seed, people.name)
    prior = prior_latents(base, plan.recipe, on_step)
    return build_zoo(base, folder, plan, prior, on_step, people)

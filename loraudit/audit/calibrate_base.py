"""Calibration from a base alone: it draws pictures, LoRAs are fine-tuned on them, and attacks measure those.

    pictures/   what the base has drawn of made-up people, crowds, styles and things
    loras/      zoos of LoRAs of them (`loraudit.training.control_plans`)
    decoys.safetensors, settings.json, done.jsonl, calibration.json

Everything is kept as it is done, and goes on where it stopped, with the same results. When an attack changes,
the same call measures that attack alone.
"""

from __future__ import annotations

import gc
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from torch.nn import functional

from loraudit.audit.calibrate import as_lora, calibration_of, conditions_of, known, measured
from loraudit.audit.calibrate_folders import begin_run
from loraudit.audit.calibrate_loras import Batch, Making
from loraudit.audit.calibrate_work import (
    CLASS,
    DRAWING,
    MEASURING,
    TRAINING,
    Rates,
    Work,
    Workday,
    rates_of,
    trained_samples,
    trained_seconds,
    work_of,
)
from loraudit.audit.calibrated import DECOYS, write_decoys
from loraudit.audit.request import Request
from loraudit.audit.setup import Setup, set_up_to_calibrate
from loraudit.base.memory import free_memory, is_out_of_memory, memory_may_run_out
from loraudit.cards import calibration_folder
from loraudit.errors import LorauditError
from loraudit.lora.directions import directions
from loraudit.people.cast import PEOPLE, open_cast
from loraudit.runs import OnStep, Run, unheard
from loraudit.text import clean
from loraudit.training.control_plans import Sizes
from loraudit.training.defaults import base_recipe, prior_latents, training_base
from loraudit.training.drawer import Drawer, pictures_for
from loraudit.training.people_a_pass import TAKEN, kept_bytes, people_for
from loraudit.training.zoo import build_zoo
from loraudit.training.zoo_plan import RECORD, read_plan
from loraudit.training.zoo_plan import Plan as ZooPlan

if TYPE_CHECKING:
    from loraudit.attacks.plan import Plan
    from loraudit.base.model import Base
    from loraudit.evidence.calibration import Calibration
    from loraudit.scores import FaceScorer
    from loraudit.training.finetune import Recipe

__all__ = ["Ahead", "calibrate_base", "draw_pictures", "look_ahead"]

_VERSION: Final = 1
"""Raised whenever the same settings make other pictures or LoRAs."""
_SEED: Final = 0
"""Random seed of the pictures."""


@dataclass(frozen=True)
class Ahead:
    """Calibration that is about to be made, or to go on."""

    making: Making
    base: str
    device: str
    work: Work
    rates: Rates
    free: int
    """Bytes that are free on the disk."""

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of each stage, in order."""
        return self.work.seconds(self.rates)


def look_ahead(request: Request, name: str, out: Path | None = None, sizes: Sizes | None = None) -> Ahead:
    """Count and time what a calibration of the base `name` has ahead; nothing is written.

    `out` is its folder; None stands for the place where a scan finds it by the base's fingerprint. Raises
    `LorauditError` if there is no such base, and `Incomplete` if the face model, an attack or memory is
    missing.
    """
    with memory_may_run_out(name):
        setup, plan = set_up_to_calibrate(request, name)
        base = setup.base
        making = Making(out or _place(base), sizes or Sizes(), base_recipe(base))
        Run(making.folder).check()
        work = work_of(making, setup, plan)
        rates = rates_of(base, _face(setup))
        device = str(base.device)
        shown = clean(base.name, 300)
        del setup, base
        _forget()
        if work.loras:
            trainer = training_base(name, request.device, request.offline)
            rates = replace(rates, trained=trained_seconds(trainer, making.like))
            del trainer
            _forget()
    there = next(path for path in (making.folder, *making.folder.absolute().parents) if path.exists())
    return Ahead(making, shown, device, work, rates, shutil.disk_usage(there).free)


def calibrate_base(request: Request, name: str, ahead: Ahead, on_step: OnStep = unheard) -> Calibration:
    """Make the calibration that `look_ahead` looked at, from where it stopped.

    `on_step` receives the number of things done in a stage, their total, and the stage with the time left.
    Raises `LorauditError` if the folder holds another calibration or the disk is too full. Raises
    `Incomplete` if the base draws nobody whose face is found again, or memory runs out.
    """
    if ahead.work.size > ahead.free:
        raise LorauditError(
            f"it takes about {ahead.work.size / 1e9:.1f} GB, and {ahead.free / 1e9:.1f} GB are free",
            "name a folder on another disk with --output",
        )
    day = Workday(ahead.seconds, on_step)
    making = ahead.making
    with memory_may_run_out(name):
        setup, plan = set_up_to_calibrate(request, name)
        _begin(making, setup, plan)
        _draw(making, setup, plan, day)
        if not all(batch.is_made() for batch in making.batches):
            # A base for training is another one, in float32: both at once may not fit into memory.
            del setup
            _forget()
            _train(making, training_base(name, request.device, request.offline), day)
            _forget()
            setup, plan = set_up_to_calibrate(request, name)
        return _measure(making, setup, plan, day)


def draw_pictures(ahead: Ahead, setup: Setup, plan: Plan, on_step: OnStep = unheard) -> None:
    """Draw the pictures of a calibration and its decoys alone. Raises as `calibrate_base`."""
    _begin(ahead.making, setup, plan)
    _draw(ahead.making, setup, plan, Workday(ahead.seconds, on_step))


def _place(base: Base) -> Path:
    if base.fingerprint is None:
        raise LorauditError(f"{base.name} has no fingerprint", "name a folder with --output")
    return calibration_folder(base.fingerprint)


def _face(setup: Setup) -> FaceScorer:
    if setup.scorers is None:
        raise ValueError("a setup without a face model")
    return setup.scorers.face


def _begin(making: Making, setup: Setup, plan: Plan) -> None:
    """Begin or resume. Raises `LorauditError` if the folder holds another calibration."""
    face = "" if setup.scorers is None else setup.scorers.face_sha256
    conditions = conditions_of(setup.base, setup.attacks, plan, face)
    made = {"version": _VERSION, "seed": _SEED, **asdict(making.sizes)}
    begin_run(Run(making.folder), conditions, plan, {"made": made})


def _draw(making: Making, setup: Setup, plan: Plan, day: Workday) -> None:
    """Draw the pictures that are missing, and take decoys from those of people."""
    base, face = setup.base, _face(setup)
    drawer = Drawer(base, open_cast(base.card.cast), face, plan.sampling, _SEED)
    missing = [
        (making.drawn(kind), number, pictures)
        for kind, number, pictures in making.pictures()
        if not making.drawn(kind).has(number)
    ]
    total = sum(pictures_for(drawn.kind, pictures) for drawn, _, pictures in missing)
    behind = 0
    for at, (drawn, number, pictures) in enumerate(missing):
        day.tell(DRAWING, behind / total, at, len(missing))
        drawer.draw(drawn, number, pictures)
        behind += pictures_for(drawn.kind, pictures)
    if making.sizes.people and not (making.folder / DECOYS).exists():
        people = making.drawn(PEOPLE)
        photos = [people.photos(number, base.image_size) for number in range(making.sizes.people)]
        latents = torch.stack([base.encode_images(own).float().cpu() for own in photos])
        faces = torch.stack([functional.normalize(face.embed(own).vectors.mean(0), dim=0) for own in photos])
        write_decoys(making.folder, latents, faces)


def _train(making: Making, base: Base, day: Workday) -> None:
    """Fine-tune the LoRAs that are missing."""
    missing = [batch for batch in making.batches if not batch.is_made()]
    weights = [trained_samples(batch.plan.recipe) * len(batch.plan.people) for batch in missing]
    loras = sum(len(batch.plan.people) for batch in missing)
    prior = prior_latents(base, making.like, lambda done, all_, _: day.tell(CLASS, done / all_, done, all_))
    behind = made = 0
    for batch, weight in zip(missing, weights, strict=True):
        heard = _listener(day, behind / sum(weights), weight / sum(weights), made, loras)
        build_zoo(base, batch.folder, _fitting(base, batch), prior, heard, making.drawn(batch.kind))
        behind, made = behind + weight, made + len(batch.plan.people)


def _listener(day: Workday, start: float, share: float, made: int, loras: int) -> OnStep:
    """Listen to the fine-tuning of a zoo that is a `share` of the stage, with so many LoRAs `made` before."""
    return lambda done, steps, _: day.tell(TRAINING, start + share * done / steps, made, loras)


def _fitting(base: Base, batch: Batch) -> ZooPlan:
    """Return the plan of a zoo that was begun, else one for as many people a pass as the memory allows.

    Where a person with two pictures a step is too much, a step has one.
    """
    plan = batch.plan
    if (batch.folder / RECORD).exists():
        kept = read_plan(batch.folder)[0]
        recipe = replace(plan.recipe, batch=kept.recipe.batch)
        return replace(plan, recipe=recipe, people_per_pass=kept.people_per_pass)
    fitting = _people(base, plan.recipe)
    if not fitting and plan.recipe.batch > 1:
        plan = replace(plan, recipe=replace(plan.recipe, batch=1))
        fitting = _people(base, plan.recipe)
    return replace(plan, people_per_pass=min(plan.people_per_pass, max(1, fitting)))


def _people(base: Base, recipe: Recipe) -> int:
    """Count the people whose fine-tuning fits into memory together; 0 where not even one does."""
    free = free_memory(base.device)
    try:
        each = kept_bytes(base, recipe)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return 0
    finally:
        _forget()
    return 0 if free is not None and each > TAKEN * free else people_for(free, each)


def _measure(making: Making, setup: Setup, plan: Plan, day: Workday) -> Calibration:
    """Measure the LoRAs that are missing, and write the calibration."""
    run, base = Run(making.folder), setup.base
    done = known(run, setup.attacks)
    subjects = [one.subject for one in making.planned(base.image_size)]
    ahead = [any((one.key, attack.name) not in done for attack in setup.attacks) for one in subjects]

    def told(at: int, _total: int, _stage: str) -> None:
        if any(ahead):
            behind = sum(ahead[:at])
            day.tell(MEASURING, behind / sum(ahead), behind, sum(ahead))

    rows = measured(base, setup.attacks, plan, _face(setup), subjects, run, told)
    scorers = setup.scorers
    conditions = conditions_of(base, setup.attacks, plan, "" if scorers is None else scorers.face_sha256)
    spreads = [directions(as_lora(terms, base)) for terms in making.of_each_recipe()]
    found = calibration_of(making.folder.name, conditions, plan, rows, spreads)
    found.write(making.folder)
    return found


def _forget() -> None:
    """Give back the memory of a base that is not used any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

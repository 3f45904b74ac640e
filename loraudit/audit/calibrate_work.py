"""The work of a calibration that a base makes of itself: how much is ahead, and how long it takes here.

Evaluations of the UNet are counted from the plans. A pass of the UNet, a look of the face model and a step of
fine-tuning are timed on this device; hours are counts over these rates.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import torch

from loraudit.attacks.aim import Attack
from loraudit.attacks.plan import Plan
from loraudit.attacks.search.search import SearchAttack
from loraudit.attacks.table import ATTACKS
from loraudit.audit.calibrate import PERSON, as_lora, known
from loraudit.audit.calibrate_loras import Making
from loraudit.audit.forecast import DECODING, seconds_an_evaluation
from loraudit.audit.setup import Setup
from loraudit.base.model import Base
from loraudit.base.passes import pictures_a_pass
from loraudit.people.cast import PEOPLE, open_cast
from loraudit.runs import OnStep, Run
from loraudit.scores import FaceScorer
from loraudit.text import duration
from loraudit.training.defaults import prior_evaluations
from loraudit.training.drawer import PHOTOS, pictures_for
from loraudit.training.finetune import Recipe, Subject, adapted, finetune

__all__ = [
    "CLASS",
    "DRAWING",
    "MEASURING",
    "TRAINING",
    "Rates",
    "Work",
    "Workday",
    "rates_of",
    "trained_samples",
    "trained_seconds",
    "work_of",
]

DRAWING: Final = "drawing pictures"
CLASS: Final = "drawing class pictures"
TRAINING: Final = "fine-tuning LoRAs"
MEASURING: Final = "measuring LoRAs"
_BACKWARD: Final = 3
"""Time of a sample with gradients, relative to one without: backward takes twice as long as forward."""
_PIXEL: Final = 2
"""Bytes of a pixel in a PNG of a photograph, about."""
_TIMED: Final = 3
"""Steps of fine-tuning that are timed."""
_OWN_SPEED: Final = 0.05
"""Share of a stage after which its own speed tells the time that is left."""


@dataclass(frozen=True)
class Rates:
    """Seconds of this device."""

    evaluation: float
    """Seconds for a sample through the UNet, without gradients."""
    look: float
    """Seconds for a look of the face model at a picture."""
    trained: float = 0.0
    """Seconds for a sample of a step of fine-tuning; 0 where nothing is fine-tuned."""


@dataclass(frozen=True)
class Work:
    """Work that is ahead."""

    pictures: int
    """Pictures to draw, of which LoRAs are made."""
    drawn: int
    """Evaluations for them."""
    loras: int
    """LoRAs to fine-tune."""
    trained: int
    """Samples that their steps take, forward and backward."""
    class_pictures: int
    """Evaluations for class pictures, of which a part may be kept from before."""
    measured: int
    """LoRAs to measure."""
    evaluations: int
    """Evaluations to measure them."""
    looks: int
    """Pictures of theirs to look at."""
    size: int
    """Bytes that will be written, about."""

    def seconds(self, rates: Rates) -> dict[str, float]:
        """Estimate the seconds of each stage, in order."""
        return {
            DRAWING: self.drawn * rates.evaluation * DECODING + self.pictures * rates.look,
            CLASS: self.class_pictures * rates.trained / _BACKWARD,
            TRAINING: self.trained * rates.trained,
            MEASURING: self.evaluations * rates.evaluation * DECODING + self.looks * rates.look,
        }


@dataclass
class Workday:
    """Stages of a long job, one after the other, told with the time that is left in all."""

    ahead: Mapping[str, float]
    """Seconds of each stage, estimated beforehand."""
    on_step: OnStep
    now: Callable[[], float] = time.monotonic
    _began: dict[str, float] = field(default_factory=dict)

    def tell(self, stage: str, share: float, done: int, total: int) -> None:
        """Tell that a `share` of a stage is behind, and `done` of `total` things are finished."""
        here = self.now()
        began = self._began.setdefault(stage, here)
        left = self.ahead[stage] * (1 - share)
        if share >= _OWN_SPEED:
            left = (here - began) / share * (1 - share)
        stages = list(self.ahead)
        left += sum(self.ahead[later] for later in stages[stages.index(stage) + 1 :])
        self.on_step(done, total, f"{stage}, about {duration(left)} left in all")


def _to_measure(
    kind: str, attacks: Sequence[Attack], plan: Plan, base: Base, recipe: Recipe
) -> tuple[int, int]:
    """Count the evaluations and the pictures to measure a LoRA of a kind and recipe with `attacks`."""
    blank = torch.zeros(1, 1, 1)
    lora = as_lora(dict.fromkeys(adapted(base, recipe), (blank, blank)), base)
    evaluations = pictures = 0
    encoder = any(isinstance(attack, SearchAttack) and attack.encoder is not None for attack in attacks)
    for row in (row for row in ATTACKS if row.name in {attack.name for attack in attacks}):
        aims = [
            aim for aim in row.sketches if not aim.needs_words and (kind == PERSON or not aim.needs_photos)
        ]
        pictures += len(aims) * len(plan.seeds)
        searched = row.searched(lora, False, encoder)
        evaluations += plan.evaluations(len(aims) * len(plan.seeds)) + searched
    return evaluations, pictures


def trained_samples(recipe: Recipe) -> int:
    """Count the samples that go forward and backward in the fine-tuning of a LoRA."""
    return recipe.steps * recipe.batch * (2 if recipe.prior_weight else 1)


def work_of(making: Making, setup: Setup, plan: Plan) -> Work:
    """Count the work that a calibration in its folder has ahead."""
    base, cast = setup.base, open_cast(setup.base.card.cast)
    to_draw = [
        (kind, count) for kind, number, count in making.pictures() if not making.drawn(kind).has(number)
    ]
    pictures = sum(pictures_for(kind, count) for kind, count in to_draw)
    asked = sum(pictures_for(kind, count) for kind, count in to_draw if cast.prompts(kind, 0, 1))
    to_train = [batch for batch in making.batches if not batch.is_made()]
    trained = sum(trained_samples(batch.plan.recipe) * len(batch.plan.people) for batch in to_train)
    with_prior = any(batch.plan.recipe.prior_weight for batch in to_train)
    done = known(Run(making.folder), setup.attacks)
    planned = making.planned(base.image_size)
    missing = [
        (one, [attack for attack in setup.attacks if (one.subject.key, attack.name) not in done])
        for one in planned
    ]
    costs = [_to_measure(one.subject.kind, attacks, plan, base, one.recipe) for one, attacks in missing]
    kept = sum(count + (PHOTOS if kind == PEOPLE else 0) for kind, count in to_draw)
    return Work(
        pictures,
        plan.evaluations(asked),
        sum(len(batch.plan.people) for batch in to_train),
        trained,
        prior_evaluations(base) if with_prior else 0,
        sum(bool(attacks) for _, attacks in missing),
        sum(evaluations for evaluations, _ in costs),
        sum(looks for _, looks in costs),
        _PIXEL * kept * base.image_size**2
        + sum(_lora_bytes(base, batch.plan.recipe) * len(batch.plan.people) for batch in to_train),
    )


def _lora_bytes(base: Base, recipe: Recipe) -> int:
    """Count the bytes of a LoRA by the recipe, in float32."""
    return 4 * recipe.rank * sum(out + width for out, width in adapted(base, recipe).values())


@torch.no_grad()
def rates_of(base: Base, face: FaceScorer) -> Rates:
    """Time a pass of the UNet, and a look of the face model at pictures of noise."""
    pictures = pictures_a_pass(base.latent_shape, base.device, base.dtype)
    noise = torch.rand(pictures, 3, base.image_size, base.image_size)
    # The first look loads what the model needs.
    face.embed(noise[:1] / 2)
    started = time.perf_counter()
    face.embed(noise)
    look = (time.perf_counter() - started) / pictures
    return Rates(seconds_an_evaluation(base, 2 * pictures), look)


def trained_seconds(base: Base, recipe: Recipe) -> float:
    """Time a sample of some steps of fine-tuning, after one that loads what the device needs."""
    latents = torch.zeros(1, *base.latent_shape, device=base.device)
    subject = Subject(latents, recipe.class_prompt, 0)
    timed = replace(recipe, steps=1 + _TIMED)
    started = 0.0
    for step, _adapters, loss in finetune(base, [subject], timed, latents):
        # A GPU has done a step once its loss can be read.
        loss.sum().item()
        if step == 1:
            started = time.perf_counter()
    return (time.perf_counter() - started) / trained_samples(replace(recipe, steps=_TIMED))

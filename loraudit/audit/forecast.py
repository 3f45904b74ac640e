"""Forecast of a scan: its attacks, pictures, evaluations, memory and time, before anything is drawn.

The numbers come from the table of attacks and from the code that draws and stops, so they hold for any base.
Time and memory are those of the base on this device: a pass of its UNet is timed. A base that is not on this
machine is not fetched; time and memory are unknown then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Final

import torch

from loraudit.attacks.likelihood import Decoys, evaluations_for
from loraudit.attacks.plan import Plan, looks, plan_for
from loraudit.attacks.prompts import given_away
from loraudit.attacks.table import ATTACKS, Row, Sketch
from loraudit.audit.calibrated import find_calibration
from loraudit.audit.photos import read_photos
from loraudit.audit.request import QUICK_CONTROLS, Request
from loraudit.audit.scan import items_of, read_weights
from loraudit.audit.setup import open_base
from loraudit.audit.words import read_words
from loraudit.base.load import NoBase
from loraudit.base.memory import free_memory, is_out_of_memory
from loraudit.base.model import CLASS_PROMPT, Base
from loraudit.base.passes import pass_bytes, pictures_a_pass
from loraudit.cards import BaseCard, base_card, base_names
from loraudit.errors import Incomplete, LorauditError
from loraudit.evidence.faces import AttackEvidence, Faces
from loraudit.findings.failures import reported
from loraudit.lora import LoRA
from loraudit.scores.scorers import WEIGHTS
from loraudit.text import clean
from loraudit.verdict.policy import Policy
from loraudit.verdict.stopping import settled

__all__ = ["DECODING", "Cost", "Forecast", "Measured", "forecasts", "seconds_an_evaluation"]

DECODING: Final = 1.06
"""Time of a picture, relative to that of its evaluations: 2.5 of 43 TFLOP at SD 1.x's size."""
_STRANGER: Final = NormalDist(0.0, 0.1)
"""Cosines of strangers to the person in the photos."""


@dataclass(frozen=True)
class Cost:
    """Cost of a scan."""

    pictures: int
    evaluations: int
    """Evaluations of the UNet, those of the search and of comparisons included."""


@dataclass(frozen=True)
class Measured:
    """Speed and memory of a base on this machine."""

    device: str
    seconds: float | None = None
    """Seconds an evaluation; None if not known."""
    weights: int | None = None
    """Bytes of the base's weights and of a pass; None if not known."""
    free: int | None = None
    """Bytes that are free on the device; None if nobody says."""
    unknown: str = ""
    """Reason why nothing is known; empty if it is."""


@dataclass(frozen=True)
class Forecast:
    """Forecast for one target."""

    name: str
    base: str
    plan: Plan
    attacks: tuple[str, ...]
    """Names from the table of attacks."""
    aims: int
    """Embeddings and ways to sample them, in all."""
    most: Cost
    """Cost if nothing stops early and everything asks for controls."""
    clean: Cost
    """Cost for a file of which nothing comes back."""
    here: Measured
    memory: int | None
    """Bytes needed; None if not known."""

    def seconds(self, cost: Cost) -> float | None:
        """Estimate the seconds of `cost` on this device; None if not known."""
        return None if self.here.seconds is None else cost.evaluations * self.here.seconds * DECODING


def forecasts(
    targets: Sequence[str], request: Request, say: Callable[[str], None]
) -> Iterator[Forecast | tuple[str, LorauditError]]:
    """Yield a forecast for every target, or its name and the error that keeps it from being scanned.

    `say` receives lines on what is going on. Raises `LorauditError` if the request itself cannot be met.
    """
    photos = 0 if request.reference is None else len(read_photos(request.reference).pictures)
    measured: dict[str, tuple[Measured, BaseCard | None, Decoys | None]] = {}
    several = len(targets) > 1
    for name, target in (item for one in targets for item in items_of(one, several, request.exclude, say)):
        try:
            lora = read_weights(read_words(target, request))
            base = request.base or lora.base
            if base is None:
                raise Incomplete(
                    f"{name} fits several bases of {lora.family} alike", "name the base with --base"
                )
            if base not in measured:
                # Two bases at once may not fit into memory, so none is kept.
                measured[base] = _measured(request, base)
            yield _forecast(name, lora, request, photos, base, *measured[base])
        except Exception as error:
            yield name, reported(error)


def _forecast(
    name: str,
    lora: LoRA,
    request: Request,
    photos: int,
    base: str,
    here: Measured,
    card: BaseCard | None,
    decoys: Decoys | None,
) -> Forecast:
    family = lora.base or base
    if card is None:
        card = base_card(family if base not in base_names() else base)
    plan = plan_for(
        card, request.samples, request.steps, request.seed, QUICK_CONTROLS if request.quick else None
    )
    of_family = base_card(family) if family in base_names() else card
    rows = _rows(request, photos, of_family, decoys)
    encoder = "encoder" in of_family.encoders or request.encoder is not None
    words = len(given_away(lora.file.metadata, lora.file.triggers))
    likeness = photos > 0 and not request.quick
    aims = [
        sketch
        for row in rows
        for sketch in row.sketches
        if sketch.needs_words <= words and (likeness or not sketch.needs_photos)
    ]
    searched = sum(row.searched(lora, request.quick, encoder) for row in rows)
    embeddings = [aim.embedding for aim in aims]
    most = plan.most_at(embeddings)
    quiet = sum(_quiet_pictures(plan, aim, len(aims), photos > 0) for aim in aims)
    compared = 0
    if decoys is not None and any(row.needs_photos for row in rows):
        compared = evaluations_for(photos, decoys.latents)
    if compared and not aims:
        # A comparison alone is aimed by the first attack of the table, which then draws nothing either.
        searched += ATTACKS[0].searched(lora, request.quick, True)
    return Forecast(
        clean(name),
        clean(base, 300),
        plan,
        tuple(row.name for row in rows),
        len(aims),
        Cost(plan.most_pictures(embeddings), searched + most + compared),
        Cost(quiet, searched + plan.evaluations(quiet) + compared),
        here,
        None if here.weights is None else here.weights + 2 * _bytes(lora) + _judges(card),
    )


def _rows(request: Request, photos: int, card: BaseCard, decoys: Decoys | None) -> list[Row]:
    """List the attacks that a scan with so many reference `photos` runs on the base of `card`."""
    return [
        row
        for row in ATTACKS
        if row.name in request.attacks
        and (request.pictures or not row.draws)
        and (photos or not row.needs_photos)
        and (not row.needs_encoder or row.name in card.encoders or request.encoder is not None)
        and (not row.needs_photos or decoys is not None)
    ]


def _quiet_pictures(plan: Plan, aim: Sketch, aims: int, photos: bool) -> int:
    """Count the pictures after which an aim stops that brings back strangers."""
    most = len(plan.seeds)
    return next(
        look
        for look in looks(most)
        if look == most or settled(_strangers(look, aim, photos), most, aims, Policy())
    )


def _strangers(pictures: int, aim: Sketch, photos: bool) -> AttackEvidence:
    """Make the evidence of pictures that show somebody else each."""
    cosines = tuple(_STRANGER.inv_cdf((at + 0.5) / pictures) for at in range(pictures))
    pairs = (0.0,) * (pictures * (pictures - 1) // 2)
    tuned = Faces(pictures, pictures, pairs, cosines if photos else None)
    nobody = Faces(0, 0, (), () if photos else None)
    return AttackEvidence(aim.name, 0.6, 1e-3, tuned, nobody, (), likeness_only=aim.needs_photos)


def _bytes(lora: LoRA) -> int:
    """Count the bytes of the LoRA's factors in float32; DoRA has the rank of the smaller side."""
    read = sum(factors.up.size + factors.down.size for factors in lora.factors.values())
    whole = sum(min(module.factors.shape) * sum(module.factors.shape) for module in lora.dora.values())
    return 4 * (read + whole)


def _judges(card: BaseCard) -> int:
    """Count the bytes of the models that look at the pictures."""
    return WEIGHTS.get(card.face, 0) + WEIGHTS.get(card.clip, 0)


def _measured(request: Request, name: str) -> tuple[Measured, BaseCard | None, Decoys | None]:
    """Load the base if it is on this machine, and time it; return its card and decoys, None without any."""
    device = request.device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        base = open_base(replace(request, offline=True), name)
    except NoBase:
        return Measured(device, unknown=f"the base {clean(name, 300)} is not on this machine"), None, None
    except Incomplete as error:
        return Measured(device, unknown=str(error)), None, None
    pictures = pictures_a_pass(base.latent_shape, base.device, base.dtype)
    modules = (base.unet, base.vae, base.text_encoder)
    weights = sum(weight.nbytes for module in modules for weight in module.parameters())
    taken = weights + pass_bytes(base.latent_shape, pictures, base.dtype)
    here = Measured(device, None, taken, free_memory(base.device))
    decoys = find_calibration(request.calibration, base).decoys
    try:
        return replace(here, seconds=seconds_an_evaluation(base, 2 * pictures)), base.card, decoys
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return replace(here, unknown="there is not enough memory for a pass"), base.card, decoys


@torch.no_grad()
def seconds_an_evaluation(base: Base, samples: int) -> float:
    """Time the evaluation of one sample, in a pass of so many `samples`."""
    x = torch.randn(samples, *base.latent_shape).to(base.device, base.dtype)
    t = torch.full((samples,), 500, device=base.device)
    embedding = base.encode_text([CLASS_PROMPT]).expand(samples, -1, -1)
    started = time.perf_counter()
    if base.device.type == "cuda":
        # The first pass on a GPU loads its kernels.
        base.epsilon(x, t, embedding)
        torch.cuda.synchronize()
        started = time.perf_counter()
    base.epsilon(x, t, embedding)
    if base.device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / samples

"""Calibration: measurement of control LoRAs under the very attacks of a scan.

A control's pictures come from the tuned model alone: controls of a control say nothing about a scan. LoRAs of
one person each are measured three times: alone, against photos of that person, and against photos of another.
`measure` measures one LoRA, `measured` the LoRAs of a resumable run, `calibrate` LoRAs at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from loraudit.attacks.aim import Aim, Attack
from loraudit.attacks.encoder import EncoderAttack
from loraudit.attacks.plan import Plan, draw, looks
from loraudit.attacks.search.search import SearchAttack
from loraudit.attacks.table import version_of
from loraudit.base.lowrank import Terms
from loraudit.base.model import Base
from loraudit.evidence.calibration import Calibration, Conditions, Control, Leaking, Shares
from loraudit.evidence.merging import Spread
from loraudit.evidence.null import agreement_score, likeness_score
from loraudit.lora import Factors, LoRA, LoRAFile
from loraudit.lora.directions import directions
from loraudit.runs import OnStep, Run, unheard
from loraudit.scores import FaceScorer
from loraudit.scores.scorers import Scorers, look_at
from loraudit.version import versions

__all__ = [
    "PERSON",
    "Subject",
    "as_lora",
    "calibrate",
    "calibration_of",
    "conditions_of",
    "known",
    "measure",
    "measured",
]

PERSON: Final = "identity"
"""Kind of a LoRA of one person, where controls have theirs from `KINDS`."""
_DONE: Final = "done.jsonl"

Photos = Sequence[Tensor]
"""Photos `[3, H, W]` in 0..1."""
_Scores = tuple[Mapping[str, tuple[float, ...]], ...]
"""Shares of a LoRA by each of its judges."""


@dataclass(frozen=True)
class Subject:
    """LoRA to measure."""

    kind: str
    """Kind of control, or `PERSON`."""
    name: str
    open: Callable[[], LoRA | Terms]
    """Function that reads the LoRA; `Terms` hold this LoRA alone."""
    photos: Callable[[], tuple[Photos, Photos]] = lambda: ((), ())
    """Function that reads photos of the person, and of another; a control has none."""

    @property
    def key(self) -> str:
        """Name in `done.jsonl`."""
        return f"{self.kind}/{self.name}"


def calibrate(
    base: Base,
    attacks: Sequence[Attack],
    plan: Plan,
    face: FaceScorer,
    loras: Iterable[tuple[str, LoRA | Terms]],
    identities: Iterable[tuple[LoRA | Terms, Photos, Photos]] = (),
    *,
    face_sha256: str,
    name: str = "calibration",
) -> Calibration:
    """Measure control `loras`, each with its kind (from `KINDS`), and return the calibration data.

    `identities` are LoRAs of one person each, with photos of that person, and of *another*. `Terms` hold one
    LoRA. Raises `LorauditError` where an attack cannot run on a LoRA.
    """
    rows: list[tuple[str, _Scores]] = [
        (kind, measure(base, attacks, plan, _judges(face, ()), lora)) for kind, lora in loras
    ]
    spreads = []
    for lora, *photos in identities:
        rows.append((PERSON, measure(base, attacks, plan, _judges(face, photos), lora)))
        spreads.append(directions(lora if isinstance(lora, LoRA) else as_lora(lora, base)))
    return calibration_of(name, conditions_of(base, attacks, plan, face_sha256), plan, rows, spreads)


def measured(
    base: Base,
    attacks: Sequence[Attack],
    plan: Plan,
    face: FaceScorer,
    subjects: Sequence[Subject],
    run: Run,
    on_step: OnStep = unheard,
) -> list[tuple[str, _Scores]]:
    """Measure `subjects`, and return the kind and the scores of each, in their order.

    Each attack on each LoRA is a line of `done.jsonl` in the folder of `run`, kept as it is done. A later
    call takes what is there; lines of another version of an attack, or of another encoder, are measured
    again. `on_step` receives the number of LoRAs done, and their total. Raises `LorauditError` if the file is
    none of this run.
    """
    done = known(run, attacks)
    for number, subject in enumerate(subjects):
        on_step(number, len(subjects), "")
        missing = [attack for attack in attacks if (subject.key, attack.name) not in done]
        if not missing:
            continue
        lora = subject.open()
        judges = _judges(face, subject.photos() if subject.kind == PERSON else ())
        for attack in missing:
            scores = measure(base, [attack], plan, judges, lora)
            run.append(_DONE, {"lora": subject.key, **_means(attack), "scores": scores})
            done[subject.key, attack.name] = scores
    on_step(len(subjects), len(subjects), "")
    rows = []
    for subject in subjects:
        found = [done[subject.key, attack.name] for attack in attacks]
        rows.append((subject.kind, tuple(_joined(judged) for judged in zip(*found, strict=True))))
    return rows


def calibration_of(
    name: str,
    conditions: Conditions,
    plan: Plan,
    rows: Sequence[tuple[str, _Scores]],
    spreads: Sequence[Spread],
) -> Calibration:
    """Return the calibration data of LoRAs, each with its kind and scores, and of spreads of people's LoRAs.

    People have scores alone, against their own and against another's photos.
    """
    people = [scores for kind, scores in rows if kind == PERSON]
    return Calibration(
        name,
        conditions,
        looks(len(plan.seeds)),
        tuple(Control(kind, scores[0]) for kind, scores in rows if kind != PERSON),
        tuple(another for _, _, another in people),
        tuple(Leaking(agreement, likeness) for agreement, likeness, _ in people),
        tuple(spreads),
        versions(),
    )


def measure(
    base: Base, attacks: Sequence[Attack], plan: Plan, judges: Sequence[Scorers], lora: LoRA | Terms
) -> tuple[Shares, ...]:
    """Score every attack with each of `judges`, at each look: the share of matching pairs.

    A judge with references scores the likeness instead, also of aims made for the photos only. Attacks by the
    LoRA's own words are left out: such words stand for a name like any other. Raises as `Attack.aims`.
    """
    if not isinstance(lora, LoRA):
        lora = as_lora(lora, base)
    terms = base.with_lora(lora).terms
    found: tuple[dict[str, tuple[float, ...]], ...] = tuple({} for _ in judges)
    for aim in (aim for attack in attacks for aim in attack.aims(lora, base) if not aim.calibrated_as):
        pairs = zip(judges, found, strict=True)
        asked = [pair for pair in pairs if pair[0].references is not None or not aim.likeness_only]
        if not asked:
            continue
        pictures = _pictures(base.with_lora(terms, aim.strength), base, aim, plan)
        for judge, shares in asked:
            faces, threshold = judge.faces(pictures), judge.face.threshold
            shares[aim.attack] = tuple(
                agreement_score(faces, threshold, (look,))
                if judge.references is None
                else likeness_score(faces, (look,))
                for look in looks(len(plan.seeds))
            )
    return found


def conditions_of(base: Base, attacks: Sequence[Attack], plan: Plan, face_sha256: str) -> Conditions:
    """Return the conditions of a calibration with `attacks`; `face_sha256` is that of the face model."""
    encoders = {attack.name: _encoder(attack) for attack in attacks}
    return Conditions(
        base.name,
        base.fingerprint or "",
        plan.sampling.steps,
        plan.sampling.guidance,
        {attack.name: version_of(attack.name) for attack in attacks},
        {name: sha256 for name, sha256 in encoders.items() if sha256 is not None},
        face_sha256,
    )


def as_lora(terms: Terms, base: Base) -> LoRA:
    """Return the one LoRA that `terms` hold, as if it came from a file for `base`."""
    factors = {
        site: Factors(up[0].float().cpu().numpy(), down[0].float().cpu().numpy(), 1.0)
        for site, (up, down) in terms.items()
    }
    file = LoRAFile("control", Path("control"), "", 0, {})
    return LoRA(file, base.name, base.name, "terms", factors, ())


def _encoder(attack: Attack) -> str | None:
    """Return the SHA-256 of the encoder that the attack uses, None without one."""
    encoder = attack.encoder if isinstance(attack, SearchAttack) else attack
    return encoder.checkpoint.sha256 if isinstance(encoder, EncoderAttack) else None


def _means(attack: Attack) -> dict[str, object]:
    """Name everything in a line of `done.jsonl` that decides the scores of an attack."""
    return {"attack": attack.name, "version": version_of(attack.name), "encoder": _encoder(attack)}


def known(run: Run, attacks: Sequence[Attack]) -> dict[tuple[str, str], tuple[Shares, ...]]:
    """Read what an earlier call measured with the same attacks, by LoRA and attack."""
    means = {attack.name: _means(attack) for attack in attacks}
    rows = run.rows(_DONE)
    try:
        return {
            (str(row["lora"]), row["attack"]): tuple(
                {str(name): tuple(float(share) for share in shares) for name, shares in scores.items()}
                for scores in row["scores"]
            )
            for row in rows
            if {name: row[name] for name in ("attack", "version", "encoder")} == means.get(row["attack"])
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        raise run.damaged(_DONE) from None


def _joined(judged: Iterable[Shares]) -> Shares:
    return {name: shares for one in judged for name, shares in one.items()}


def _judges(face: FaceScorer, photos: Sequence[Photos]) -> list[Scorers]:
    """Return a judge of the agreement, and one of the likeness for each group of `photos`."""
    alone = Scorers(face)
    return [alone, *(replace(alone, references=look_at(group, face, None)) for group in photos)]


def _pictures(tuned: Base, base: Base, aim: Aim, plan: Plan) -> Tensor:
    size = plan.pictures_a_pass(base)
    batches = (plan.seeds[i : i + size] for i in range(0, len(plan.seeds), size))
    return torch.cat(
        [draw(tuned, base, aim.embedding[None], seeds, plan.sampling, aim.against_base) for seeds in batches]
    )

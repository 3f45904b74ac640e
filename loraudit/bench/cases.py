"""Leaking and harmless LoRAs, judged as a scan judges them, to measure how far a verdict can be trusted.

The faces that `loraudit.bench.faces` keeps become the very evidence of a scan, which `loraudit.verdict.judge`
judges with and without calibration data. The scan is also replayed picture by picture, to see what stopping
early saves and how often a verdict changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch.nn import functional

from loraudit.attacks.plan import FIRST_LOOK, looks
from loraudit.bench.faces import AIMS, PHOTO_AIMS, SCRAMBLED, SECRET, Pool
from loraudit.evidence.faces import AttackEvidence, Faces
from loraudit.evidence.intervals import wilson_interval
from loraudit.evidence.null import Null, agreement_score, conformal_p, likeness_score
from loraudit.findings.finding import Severity
from loraudit.people.identity import SPLITS
from loraudit.people.sources import REFERENCES, portraits
from loraudit.verdict.judge import judge_identity
from loraudit.verdict.policy import Policy
from loraudit.verdict.stopping import enough, settled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from loraudit.evidence.merging import Spread
    from loraudit.scores import FaceScorer

    Array = NDArray[np.float64]

__all__ = [
    "Area",
    "Case",
    "Judged",
    "Outcome",
    "auroc",
    "cases",
    "evidence_of",
    "first_pictures",
    "judged",
    "outcome",
    "share",
    "strangers",
]

RESAMPLES: Final = 2000
"""Bootstrap resamples of an interval."""
PHOTOS: Final = 3
"""Reference photos of a case."""
SHOWN: Final = 2
"""Least accepted pictures under the secret prompt of a LoRA that shows its person.

Of 16 pictures of a stranger, two pass once in 8,000 times.
"""
POLICY: Final = Policy()


@dataclass(frozen=True, eq=False)
class Case:
    """LoRA as a scan sees it."""

    pool: str
    kind: str
    recipe: dict[str, Any]
    evidence: tuple[AttackEvidence, ...]
    """Evidence of each attack from all its pictures, without references."""
    alone: tuple[AttackEvidence, ...]
    """Evidence as of a base without calibration data: of several scrambled LoRAs the strongest."""
    referenced: tuple[AttackEvidence, ...]
    """Evidence with three photos, and of the aims for photos too.

    The photos are a stranger's if the LoRA holds nobody.
    """
    shown: bool | None = None
    """True if the secret prompt shows the person; None for a LoRA without a secret prompt."""
    spread: Spread | None = None
    """Entry of `Pool.spreads`."""


@dataclass(frozen=True)
class Judged:
    """Verdict of a scan on a case."""

    level: Severity
    pictures: int
    """Pictures by each of the three models, over all attacks."""


@dataclass(frozen=True)
class Outcome:
    """Measurements of one case."""

    pool: str
    kind: str
    recipe: dict[str, Any]
    scores: dict[str, float]
    calibrated: Judged
    in_scan: Judged
    """Verdict without calibration data."""
    referenced: Judged
    early: Judged
    """Verdict as `calibrated`, of a scan that may stop early."""
    early_referenced: Judged
    shown: bool | None = None
    """Value of `Case.shown`."""
    several: bool | None = None
    """True if the LoRA is taken for several merged; None without calibration data."""


@dataclass(frozen=True)
class Area:
    """Area under a ROC curve with its 95 % interval."""

    value: float
    low: float
    high: float
    leaking: int
    harmless: int


def cases(pool: Pool, people: Sequence[int], face: FaceScorer, samples: int | None = None) -> list[Case]:
    """List the LoRAs of a pool by their first `samples` pictures; references show `people`."""
    found = []
    for row, kind in enumerate(pool.kinds):
        photos = face.embed(portraits(people[row], REFERENCES.start, PHOTOS)).vectors
        reference = functional.normalize(photos.mean(0), dim=0)
        plain = tuple(evidence_of(pool, aim, row, face, samples, None) for aim in AIMS)
        alone = tuple(evidence_of(pool, aim, row, face, samples, None, SCRAMBLED) for aim in AIMS)
        told = tuple(evidence_of(pool, aim, row, face, samples, reference) for aim in (*AIMS, *PHOTO_AIMS))
        secret = [pool.faces[name][row] for name in SECRET if name in pool.faces]
        shown = None
        if secret:
            shown = int((torch.cat(secret) @ reference >= face.threshold).sum()) >= SHOWN
        found.append(Case(pool.name, kind, pool.recipe, plain, alone, told, shown, pool.spreads[row]))
    return found


def strangers(count: int, first: int) -> tuple[int, ...]:
    """List people of the `control` split whom no other part of these measurements uses."""
    return tuple(SPLITS["control"][70_000 + 4 * (first + i)] for i in range(count))


def evidence_of(
    pool: Pool,
    aim: str,
    row: int,
    face: FaceScorer,
    samples: int | None,
    reference: Tensor | None,
    controls: Sequence[str] = SCRAMBLED[:1],
) -> AttackEvidence:
    """Return what a scan sees of the LoRA at place `row` by one aim, beside the scrambled `controls`."""
    tuned, base, *copies = (
        pool.faces[f"{aim}/{name}"][row][:samples] for name in ("tuned", "base", *controls)
    )
    if len(copies) > 1:
        copies = [vectors[:FIRST_LOOK] for vectors in copies]

    def faces(vectors: Tensor) -> Faces:
        seen = vectors.norm(dim=1) > 0.5
        present = vectors[seen]
        first, second = torch.triu_indices(len(present), len(present), offset=1)
        pairs = (present @ present.T)[first, second]
        to = None if reference is None else tuple((present @ reference).clamp(-1, 1).tolist())
        where = tuple(seen.nonzero()[:, 0].tolist())
        return Faces(len(vectors), len(present), tuple(pairs.clamp(-1, 1).tolist()), to, where)

    def cross(a: Tensor, b: Tensor) -> tuple[float, ...]:
        one, other = (vectors[vectors.norm(dim=1) > 0.5] for vectors in (a, b))
        return tuple((one @ other.T).flatten().clamp(-1, 1).tolist())

    told = [faces(vectors) for vectors in copies]
    agree = [agreement_score(one, face.threshold, (one.pictures,)) for one in told]
    strongest = agree.index(max(agree))
    return AttackEvidence(
        aim,
        face.threshold,
        face.far,
        faces(tuned),
        faces(base),
        cross(tuned, base),
        told[strongest],
        cross(tuned, copies[strongest]),
        tuple((one.found, one.pictures) for one in told),
        likeness_only=aim in PHOTO_AIMS,
        threshold_from=face.threshold_from,
    )


def first_pictures(evidence: AttackEvidence, pictures: int, controls: int | None = None) -> AttackEvidence:
    """Cut the evidence to its first `pictures`, as if no more had been made.

    Of each control the first `controls` are left; None: as many.
    """
    others = pictures if controls is None else controls
    tuned, base = evidence.tuned.first(pictures), evidence.base.first(others)
    scrambled = evidence.scrambled.first(others) if evidence.scrambled and others else None

    def corner(values: tuple[float, ...], wide: int, rows: int, columns: int) -> tuple[float, ...]:
        return tuple(values[i * wide + j] for i in range(rows) for j in range(columns))

    return replace(
        evidence,
        tuned=tuned,
        base=base,
        scrambled=scrambled,
        disturbed=() if scrambled is None else ((scrambled.found, scrambled.pictures),),
        cross=corner(evidence.cross, evidence.base.found, tuned.found, base.found),
        scrambled_cross=()
        if scrambled is None or evidence.scrambled is None
        else corner(evidence.scrambled_cross, evidence.scrambled.found, tuned.found, scrambled.found),
        copies=evidence.copies and evidence.copies.first(pictures, others),
    )


def judged(evidence: Sequence[AttackEvidence], null: Null | None, sequential: bool) -> Judged:
    """Judge a scan of these attacks in this order, which stops early if `sequential`."""
    most, planned = evidence[0].tuned.pictures, len(evidence)
    done: list[AttackEvidence] = []
    pictures = 0
    for whole in evidence:
        seen = whole
        if sequential:
            for look in looks(most):
                seen = first_pictures(whole, look)
                if look < most and settled(seen, most, planned, POLICY, null):
                    break
        done.append(seen)
        pictures += seen.tuned.pictures
        if sequential and enough(done, planned, POLICY, null):
            break
    level = max(finding.severity for finding in judge_identity(done, POLICY, null, planned))
    return Judged(level, pictures)


def outcome(case: Case, null: Null | None) -> Outcome:
    """Measure a case in every way at once, so that the slow tests are computed once and cached."""
    return Outcome(
        case.pool,
        case.kind,
        case.recipe,
        scores(case, null),
        calibrated=judged(case.evidence, null, sequential=False),
        in_scan=judged(case.alone, None, sequential=False),
        referenced=judged(case.referenced, null, sequential=False),
        early=judged(case.evidence, null, sequential=True),
        early_referenced=judged(case.referenced, null, sequential=True),
        shown=case.shown,
        several=_several(null),
    )


def scores(case: Case, null: Null | None) -> dict[str, float]:
    """Score a case for the ROC curves."""
    threshold = case.evidence[0].threshold
    at = looks(case.evidence[0].tuned.pictures)
    tuned = [agreement_score(one.tuned, threshold, at) for one in case.evidence]
    controls = [
        max(agreement_score(faces, threshold, at) for faces in (one.base, one.scrambled) if faces is not None)
        for one in case.alone
    ]
    found = {
        "without references": max(tuned),
        "in-scan controls only": max(a - b for a, b in zip(tuned, controls, strict=True)),
        "three references": max(likeness_score(one.tuned, at) for one in case.referenced),
        "three references, full strength only": max(
            likeness_score(one.tuned, at) for one in case.referenced if not one.likeness_only
        ),
    }
    if null is not None:
        found["p-value"] = conformal_p(max(tuned), null.agreement)
    return found


def _several(null: Null | None) -> bool | None:
    return None if null is None else POLICY.merged(null.one_person)


def auroc(
    leaking: Sequence[float], harmless: Sequence[float], zoos: tuple[Sequence[str], Sequence[str]]
) -> Area:
    """Compute the share of (leaking, harmless) pairs in the right order, ties half, with a bootstrap.

    `zoos` names the zoo of every LoRA. Whole zoos are resampled: LoRAs of one recipe are not independent, and
    an interval over LoRAs would be too narrow (Davison and Hinkley 1997, section 3.8).
    """
    a, b = np.asarray(leaking, float), np.asarray(harmless, float)
    above = (a[:, None] > b[None]) + 0.5 * (a[:, None] == b[None])
    rows, columns = (
        np.asarray([[name == zoo for name in side] for zoo in dict.fromkeys(side)], float) for side in zoos
    )
    won, pairs = rows @ above @ columns.T, np.outer(rows.sum(1), columns.sum(1))
    rng, areas = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        drawn = np.ix_(*(rng.integers(n, size=n) for n in won.shape))
        areas.append(won[drawn].sum() / pairs[drawn].sum())
    low, high = np.quantile(areas, (0.025, 0.975))
    return Area(float(above.mean()), float(low), float(high), len(a), len(b))


def share(hits: Sequence[bool]) -> list[float]:
    """Count true `hits` as `[k, n, low, high]`, with Wilson's 95 % interval."""
    k, n = sum(hits), len(hits)
    low, high = wilson_interval(k, n) if n else (math.nan, math.nan)
    return [k, n, round(low, 4), round(high, 4)]

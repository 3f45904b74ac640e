"""Conformal calibration: a score among those of control LoRAs that hold nobody in particular.

If a file were one more control, its score would be as likely to come at any place among theirs as at any
other. The share of places at or above it, `(1 + #{control >= score}) / (controls + 1)`, is therefore a
p-value without a model: at most a share `p` of controls gets one of at most `p` (Vovk, Gammerman and Shafer
2005, "Algorithmic Learning in a Random World").

The score of an attack is the share of all pairs of its pictures that match; a picture without a face matches
none, or two lucky faces of sixteen pictures would score 1. A control's is its maximum over the attacks and
looks that the scan might have used. A scan takes each attack at the last look that it reached, so its own
maximum can only be smaller: with any rule to stop early, and for the best of all attacks, the p-value errs
upwards, and no further correction is needed (Westfall and Young 1993, the single-step maximum).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from loraudit.evidence.faces import AttackEvidence, Faces
from loraudit.evidence.statistics import likeness
from loraudit.findings.exhibits import Distribution

__all__ = ["Null", "agreement_score", "conformal_p", "distributions", "likeness_score"]


@dataclass(frozen=True)
class Null:
    """What control LoRAs score under the attacks of one scan."""

    looks: tuple[int, ...]
    """Numbers of pictures at which they were scored, rising."""
    agreement: tuple[float, ...]
    """Of each control LoRA: its highest agreement over attacks and looks, in 0..1."""
    likeness: tuple[float, ...] = ()
    """Of each LoRA of somebody else than the reference photos show: its highest likeness to them, in 0..1."""
    leaking_agreement: tuple[float, ...] = ()
    """Of LoRAs of one person each: shown beside the others, never judged with."""
    leaking_likeness: tuple[float, ...] = ()
    """The same, against photos of that person."""
    one_person: float = 1.0
    """The p-value of the file being a LoRA of one person, by the number of directions in which it changes
    modules. Several LoRAs merged reach in more.
    """


def conformal_p(score: float, controls: Sequence[float]) -> float:
    """The conformal p-value of `score`, in 1 / (n + 1)..1."""
    return (1 + sum(control >= score for control in controls)) / (len(controls) + 1)


def agreement_score(faces: Faces, threshold: float, looks: Sequence[int]) -> float:
    """Share of matching pairs among all pairs of pictures, at the last of `looks` that was reached.

    0 before the first.
    """
    seen = faces.first(_last(faces, looks))
    pairs = math.comb(seen.pictures, 2)
    return sum(cosine >= threshold for cosine in seen.pairs) / pairs if pairs else 0.0


def likeness_score(faces: Faces, looks: Sequence[int]) -> float:
    """Mean cosine of the pictures to the reference person, at the last of `looks` that was reached, in 0..1.

    A picture without a face counts 0, and so does a mean below 0. It tells leaking LoRAs from others better
    than the share accepted does: weak LoRAs show a likeness that passes too seldom.
    """
    seen = faces.first(_last(faces, looks))
    return max(0.0, likeness(seen)) if seen.pictures else 0.0


def distributions(evidence: Sequence[AttackEvidence], null: Null | None) -> tuple[Distribution, ...]:
    """Where the strongest of the attacks falls among the LoRAs of `null`, by either score; none without."""
    if null is None or not evidence:
        return ()
    here = max(
        (agreement_score(e.tuned, e.threshold, null.looks) for e in evidence if not e.likeness_only),
        default=0.0,
    )
    found = [Distribution("agreement", here, null.agreement, null.leaking_agreement)]
    if null.likeness and all(e.tuned.to_reference is not None for e in evidence):
        here = max(likeness_score(e.tuned, null.looks) for e in evidence)
        found.append(Distribution("likeness", here, null.likeness, null.leaking_likeness))
    return tuple(found)


def _last(faces: Faces, looks: Sequence[int]) -> int:
    return max((look for look in looks if look <= faces.pictures), default=0)

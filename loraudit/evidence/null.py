"""Conformal calibration: a score among those of control LoRAs that hold nobody in particular.

If a file were one more control, its score would be as likely to come at any place among theirs as at any
other. The share of places at or above the score, `(1 + #{control >= score}) / (controls + 1)`, is therefore a
p-value without a model. At most a share `p` of controls gets a p-value of at most `p` (Vovk, Gammerman and
Shafer 2005, "Algorithmic Learning in a Random World").

The score of an attack is the share of all pairs of its pictures that match. A picture without a face matches
none: otherwise two lucky faces of sixteen pictures would score 1. The score of a control is its maximum over
the attacks and looks that the scan might have used. A scan takes each attack at the last look reached, so its
maximum can only be smaller. The p-value of the best attack therefore errs upwards under any rule to stop
early. No further correction is needed (Westfall and Young 1993, the single-step maximum).
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
    """Scores of control LoRAs under the attacks of one scan."""

    looks: tuple[int, ...]
    """Numbers of pictures at which the controls were scored, rising."""
    agreement: tuple[float, ...]
    """Highest agreement of each control LoRA over attacks and looks, in 0..1."""
    likeness: tuple[float, ...] = ()
    """Highest likeness of each LoRA of one person to photos of somebody else, in 0..1."""
    leaking_agreement: tuple[float, ...] = ()
    """Agreement of LoRAs of one person each, in 0..1: shown beside the others, never judged with."""
    leaking_likeness: tuple[float, ...] = ()
    """Likeness of the same LoRAs to photos of that person, in 0..1."""
    one_person: float = 1.0
    """p-value of the file being a LoRA of one person, by the directions in which modules are changed.

    Several LoRAs merged change modules in more directions (`loraudit.evidence.merging`).
    """


def conformal_p(score: float, controls: Sequence[float]) -> float:
    """Return the conformal p-value of `score` among `n` `controls`, in 1 / (n + 1)..1."""
    return (1 + sum(control >= score for control in controls)) / (len(controls) + 1)


def agreement_score(faces: Faces, threshold: float, looks: Sequence[int]) -> float:
    """Return the share of matching pairs among all pairs of pictures, at the last of `looks` reached.

    The share is 0 before the first look.
    """
    seen = faces.first(_last(faces, looks))
    pairs = math.comb(seen.pictures, 2)
    return sum(cosine >= threshold for cosine in seen.pairs) / pairs if pairs else 0.0


def likeness_score(faces: Faces, looks: Sequence[int]) -> float:
    """Return the mean cosine of the pictures to the reference person, at the last look reached, in 0..1.

    A picture without a face counts 0, and so does a mean below 0. The likeness tells leaking LoRAs from
    others better than the accepted share does: pictures by a weak LoRA resemble the person, but seldom pass.
    """
    seen = faces.first(_last(faces, looks))
    return max(0.0, likeness(seen)) if seen.pictures else 0.0


def distributions(evidence: Sequence[AttackEvidence], null: Null | None) -> tuple[Distribution, ...]:
    """Return the scores of the strongest attacks among those of the LoRAs of `null`; none without `null`."""
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

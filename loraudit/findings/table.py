"""Every number of a scan, each beside its control."""

from collections.abc import Sequence
from statistics import fmean

from loraudit.findings.evidence import (
    AttackEvidence,
    Comparison,
    Faces,
    Reading,
    Share,
    accepted_share,
    accepted_test,
    agreement_share,
    agreement_test,
    mean_interval,
    quantile,
    wilson_interval,
)
from loraudit.findings.vocabulary import Score

__all__ = ["score_table"]


def score_table(evidence: Sequence[AttackEvidence]) -> tuple[Score, ...]:
    """Every number of every attack, each followed by its control, the same number of the base model."""
    return tuple(score for e in evidence for score in _attack_scores(e))


def _attack_scores(e: AttackEvidence) -> list[Score]:
    scores = _pair("faces", e, "face detector", _found(e.tuned), _found(e.base))
    agreement = agreement_share(e.tuned, e.threshold), agreement_share(e.base, e.threshold)
    scores += _pair("consistency", e, "each other", *agreement, agreement_test(e))
    accepted, base = accepted_share(e.tuned, e.threshold), accepted_share(e.base, e.threshold)
    if accepted is not None and base is not None:
        scores += _pair("accepted", e, "reference", accepted, base, accepted_test(accepted, base))
    readings = e.readings
    if e.tuned.to_reference is not None and e.base.to_reference is not None:
        readings = (Reading("cosine", "reference", e.tuned.to_reference, e.base.to_reference), *readings)
    for reading in readings:
        null = quantile(reading.base_values, 0.95) if reading.base_values else None
        scores.append(_mean(reading.name, e.attack, reading.against, reading.values, null))
        scores.append(_mean(f"{reading.name}.base", e.attack, reading.against, reading.base_values, None))
    return scores


def _pair(
    name: str, e: AttackEvidence, against: str, tuned: Share, base: Share, test: Comparison | None = None
) -> list[Score]:
    null, p_value = (test.null_p95, test.p_value) if test else (None, None)
    value, control = (share.value if share.n else None for share in (tuned, base))
    return [
        Score(name, e.attack, against, value, tuned.n, tuned.low, tuned.high, null, p_value),
        Score(f"{name}.base", e.attack, against, control, base.n, base.low, base.high),
    ]


def _found(faces: Faces) -> Share:
    return Share(faces.found, faces.pictures, *wilson_interval(faces.found, faces.pictures))


def _mean(name: str, attack: str, against: str, values: Sequence[float], null: float | None) -> Score:
    # Pairs share pictures, so their mean has no interval of independent values.
    interval = None if against == "each other" else mean_interval(values)
    low, high = interval or (None, None)
    return Score(name, attack, against, fmean(values) if values else None, len(values), low, high, null)

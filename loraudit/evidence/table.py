"""Every number of a scan, each beside its control."""

from collections.abc import Sequence
from statistics import fmean

from loraudit.evidence.copies import copied_share
from loraudit.evidence.faces import AttackEvidence, Faces, Reading
from loraudit.evidence.intervals import Comparison, Share, mean_interval, quantile, wilson_interval
from loraudit.evidence.kinds import Evidence
from loraudit.evidence.likelihood import Likelihood, likelihood_score
from loraudit.evidence.statistics import accepted_share, accepted_test, agreement_share, agreement_test
from loraudit.findings.finding import Score

__all__ = ["score_table"]


def score_table(evidence: Sequence[Evidence]) -> tuple[Score, ...]:
    """List every number of every attack, each followed by its controls, as far as there are any.

    A control is the same number of the base model and, for faces, of the scrambled LoRA.
    """
    pictured = [score for e in evidence if isinstance(e, AttackEvidence) for score in _attack_scores(e)]
    return (*pictured, *(likelihood_score(e) for e in evidence if isinstance(e, Likelihood)))


def _attack_scores(e: AttackEvidence) -> list[Score]:
    sides = (e.tuned, *([e.base] if e.controlled else []), *([e.scrambled] if e.scrambled else []))
    scores = _row("faces", e, "face detector", [_found(faces) for faces in sides])
    agreement = [agreement_share(faces, e.threshold) for faces in sides]
    scores += _row("consistency", e, "each other", agreement, agreement_test(e) if e.controlled else None)
    accepted = [share for faces in sides if (share := accepted_share(faces, e.threshold)) is not None]
    if accepted:
        test = accepted_test(accepted[0], accepted[1]) if e.controlled else None
        scores += _row("accepted", e, "reference", accepted, test)
    if e.copies is not None:
        tuned, base, scrambled = e.copies.tuned, e.copies.base, e.copies.scrambled
        # Each control is compared with the other.
        compared = ((tuned, e.copies.controls), (base, scrambled), (scrambled, base))
        against = compared if e.controlled else compared[:1]
        copied = [copied_share(pictures, controls, e.copies) for pictures, controls in against]
        scores += _row("copies", e, "reference", copied)
    readings = e.readings
    if e.tuned.to_reference is not None and e.base.to_reference is not None:
        readings = (Reading("cosine", "reference", e.tuned.to_reference, e.base.to_reference), *readings)
    for reading in readings:
        null = quantile(reading.base_values, 0.95) if reading.base_values else None
        scores.append(_mean(reading.name, e.attack, reading.against, reading.values, null))
        if e.controlled:
            scores.append(_mean(f"{reading.name}.base", e.attack, reading.against, reading.base_values, None))
    return scores


def _row(
    name: str, e: AttackEvidence, against: str, sides: Sequence[Share], test: Comparison | None = None
) -> list[Score]:
    """Return the scores of the tuned pictures and, with `.base` and `.scrambled`, of the controls."""
    null, p_value = (test.null_p95, test.p_value) if test else (None, None)
    scores = []
    for suffix, share in zip(("", ".base", ".scrambled"), sides, strict=False):
        value = share.value if share.n else None
        told = (null, p_value) if not suffix else (None, None)
        scores.append(
            Score(f"{name}{suffix}", e.attack, against, value, share.n, share.low, share.high, *told)
        )
    return scores


def _found(faces: Faces) -> Share:
    return Share(faces.found, faces.pictures, *wilson_interval(faces.found, faces.pictures))


def _mean(name: str, attack: str, against: str, values: Sequence[float], null: float | None) -> Score:
    # Pairs share pictures, so their mean has no interval of independent values.
    interval = None if against == "each other" else mean_interval(values)
    low, high = interval or (None, None)
    return Score(name, attack, against, fmean(values) if values else None, len(values), low, high, null)

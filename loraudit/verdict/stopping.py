"""Early stopping: of an attack whose outcome more pictures would hardly change, of a scan that finds no more.

The pictures of an attack ask for controls if a finding could come of them. They are judged beside controls
that show nobody alike: whatever these leave at `none` stays at `none` beside any controls. So a scan without
the other controls ends at the level of one that draws them all.

A question is settled early in one of two ways.

- *Found*: the verdict stands at its highest level already, with the tests against both controls held to
  `EARLY_ALPHA`. A boundary that strict leaves the error of the last look as it is (Haybittle 1971, British
  Journal of Radiology 44; Peto and others 1976, British Journal of Cancer 34). Moreover, the chance that the
  full number of pictures would lower the level is at most `ERROR`.
- *Futile*: nothing has been shown, and the chance that the full number would show anything is at most
  `ERROR`.

The chances are predictive. Of `n` pictures `K` show one person; how many of the `most - n` to come show that
person too is a beta-binomial number under Jeffreys' prior. Futility asks for the fewest that any level could
take. The fewest have to make enough pairs for the lowest share, and for the tests if no control matches.

An attack of which too few pictures show a face is inconclusive. Such an attack is settled, too, once the
chance of enough faces is at most `ERROR`; with photos, only where calibration data hold the likeness.

The person in the photos is settled by cosines: Student's t predicts those of the pictures to come from those
seen. A search is futile if the cosines will hardly pass the face model's threshold often enough, nor their
mean reach the likeness of a finding. The person is found if the mean will hardly fall to that of LoRAs of
other people.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, stdev
from typing import Final

from loraudit.evidence.faces import AttackEvidence, Faces
from loraudit.evidence.intervals import quantile, t_tail, wilson_interval
from loraudit.evidence.null import Null, conformal_p
from loraudit.evidence.statistics import agreement_share, of_pictures
from loraudit.findings.finding import Severity
from loraudit.verdict.claims import Claim, accepted_claim, agreement_claim
from loraudit.verdict.judge import judge_identity
from loraudit.verdict.policy import Policy

__all__ = ["EARLY_ALPHA", "ERROR", "asks_for_controls", "enough", "settled"]

ERROR: Final = 0.05
"""Chance that an attack stopped early would have ended otherwise, at most."""
EARLY_ALPHA: Final = 0.001
"""Significance level at an early look."""
_LEEWAY: Final = 2.0
"""Factor of the chance at which controls are asked for.

Faces that tuned pictures share with controls, and not with each other, may lower a p-value a little.
"""
_LEAST_SPREAD: Final = 1e-6
"""Standard deviation of cosines that are all the same."""
_EARLY_CONFIDENCE: Final = 1 - 2 * EARLY_ALPHA
"""Confidence of a two-sided interval whose lower end is held to `EARLY_ALPHA`."""


def asks_for_controls(
    evidence: AttackEvidence, planned: int, policy: Policy, null: Null | None = None
) -> bool:
    """Tell whether controls could change the answer of one attack of `planned`, which is `none` without.

    The controls of `evidence` do not matter. `null` holds the scores of control LoRAs, None without.
    """
    tuned = evidence.tuned
    if evidence.copies is not None and evidence.copies.near:
        return True
    least = _beside_nobody(evidence)
    accepted = accepted_claim(least, policy, null)
    if accepted is not None and accepted.severity > Severity.NONE:
        return True
    if evidence.likeness_only or tuned.found < policy.min_faces:
        return False
    if agreement_share(tuned, evidence.threshold).value < policy.low_agreement:
        # No level takes fewer pairs, and the tests are slow.
        return False
    generous = replace(policy, alpha=_LEEWAY * policy.alpha)
    return agreement_claim(least, generous, planned, null).severity > Severity.NONE


def _beside_nobody(evidence: AttackEvidence) -> AttackEvidence:
    """Give the tuned pictures controls whose faces are like no other face, as many as there are pictures."""
    tuned = evidence.tuned
    unlike = None if tuned.to_reference is None else (-1.0,) * tuned.pictures
    controls = Faces(tuned.pictures, tuned.pictures, (-1.0,) * _pairs(tuned.pictures), unlike)
    cross = (-1.0,) * (tuned.found * tuned.pictures)
    return replace(
        evidence,
        base=controls,
        cross=cross,
        scrambled=controls,
        scrambled_cross=cross,
        readings=(),
        copies=None,
    )


def settled(
    evidence: AttackEvidence, most: int, planned: int, policy: Policy, null: Null | None = None
) -> bool:
    """Tell whether more pictures, `most` at the end, would hardly change the answer of one attack.

    `planned` is the number of attacks that are to run, `null` the scores of control LoRAs, None without.
    """
    accepted = accepted_claim(evidence, policy, null)
    if accepted is None:
        return _agreement_settled(evidence, most, planned, policy, null)
    if evidence.tuned.found < policy.min_faces:
        return _faceless(evidence, most, policy, null)
    if accepted.severity is Severity.NONE:
        return _hardly_alike(evidence, most, policy, null) and _agreement_settled(
            evidence, most, planned, policy, null
        )
    return _surely_critical(accepted, most, policy, null)


def _agreement_settled(
    evidence: AttackEvidence, most: int, planned: int, policy: Policy, null: Null | None
) -> bool:
    tuned = evidence.tuned
    if evidence.likeness_only:
        return True
    if tuned.found < policy.min_faces:
        return _reach(tuned.found, tuned.pictures, most - tuned.pictures, policy.min_faces) <= ERROR
    claim = agreement_claim(evidence, policy, planned, null)
    if claim.severity is Severity.NONE:
        return _more(claim, most, _fewest(most, planned, policy, null)) <= ERROR
    times = planned if claim.conformal is None else 1
    if claim.severity < Severity.HIGH or claim.chance * times > EARLY_ALPHA:
        return False
    return _more(claim, most, _fewest_high(most, policy, null)) >= 1 - ERROR


def _fewest_high(most: int, policy: Policy, null: Null | None) -> int:
    """Return how many pictures of one person among `most` make the level high, as far as shares decide."""
    for k in range(2, most + 1):
        share = _pairs(k) / _pairs(most)
        rare = null is None or conformal_p(share, null.agreement) <= policy.high_p
        if share >= policy.high_agreement and rare:
            return k
    return most


def enough(
    evidence: Sequence[AttackEvidence], planned: int, policy: Policy, null: Null | None = None
) -> bool:
    """Tell whether the verdict stands at the level that no further attack of `planned` can raise."""
    if not evidence:
        return False
    alone = evidence[0].tuned.to_reference is None
    top = Severity.HIGH if alone else Severity.CRITICAL
    return any(finding.severity >= top for finding in judge_identity(evidence, policy, null, planned))


def _faceless(evidence: AttackEvidence, most: int, policy: Policy, null: Null | None) -> bool:
    """Tell whether an attack, compared with photos, will hardly show faces enough for a finding on them."""
    if null is None or not null.likeness or not evidence.aims_at_face:
        # A single accepted picture is a finding, and any face to come may be accepted.
        return False
    tuned = evidence.tuned
    # A level takes a mean over all pictures that few others reach, and no face adds more than a cosine of 1.
    alike = math.ceil(quantile(null.likeness, 1 - policy.low_p) * most)
    return _reach(tuned.found, tuned.pictures, most - tuned.pictures, min(alike, policy.min_faces)) <= ERROR


def _hardly_alike(evidence: AttackEvidence, most: int, policy: Policy, null: Null | None) -> bool:
    """Tell whether the pictures to come will hardly pass as, nor resemble, the person in the photos."""
    from scipy import stats

    cosines = evidence.tuned.to_reference or ()
    n, more = len(cosines), most - evidence.tuned.pictures
    mean, spread = fmean(cosines), max(stdev(cosines), _LEAST_SPREAD)
    calibrated = null is not None and bool(null.likeness)
    pass_by = t_tail((evidence.threshold - mean) / (spread * math.sqrt(1 + 1 / n)), n - 1)
    passed = sum(cosine >= evidence.threshold for cosine in cosines)
    needed = policy.least_accepted(calibrated) - passed
    chance = float(stats.binom.sf(needed - 1, more, pass_by))
    if null is not None and null.likeness:
        chance += _mean_passes(cosines, quantile(null.likeness, 1 - policy.medium_p), more)
    return chance <= ERROR


def _mean_passes(seen: Sequence[float], bar: float, more: int) -> float:
    """Return the chance that the mean is above `bar` once `more` like values have joined those `seen`."""
    n, mean, spread = len(seen), fmean(seen), max(stdev(seen), _LEAST_SPREAD)
    # The mean of all is `mean` plus `more / (n + more)` of the difference of the new values.
    differ = (bar - mean) * (n + more) / more
    return t_tail(differ / (spread * math.sqrt(1 / more + 1 / n)), n - 1)


def _surely_critical(claim: Claim, most: int, policy: Policy, null: Null | None) -> bool:
    share = claim.share
    low, _ = wilson_interval(share.k, share.n, _EARLY_CONFIDENCE)
    if claim.severity < Severity.CRITICAL or low < policy.critical_low or low <= claim.control:
        return False
    fewest = next(k for k in range(most + 1) if wilson_interval(k, most)[0] >= policy.critical_low)
    chance = 1 - _reach(share.k, share.n, most - share.n, fewest)
    if null is not None and null.likeness:
        seen = of_pictures(claim.evidence.tuned)
        chance += _mean_passes([-cosine for cosine in seen], -max(null.likeness), most - share.n)
    return chance <= ERROR


def _more(claim: Claim, most: int, fewest: int) -> float:
    """Return the chance that `fewest` of `most` pictures show one person, given the pairs that match."""
    from scipy import stats

    n = claim.evidence.tuned.pictures
    # The fewest pictures of one person that make up that many pairs; without a pair, none or one.
    one_person = next(k for k in range(1, n + 1) if _pairs(k) >= min(claim.share.k, _pairs(n)))
    possible = (0, 1) if one_person == 1 else (one_person,)
    weights = [float(stats.betabinom.pmf(k, n, 0.5, 0.5)) for k in possible]
    reach = [_reach(k, n, most - n, fewest) for k in possible]
    return math.fsum(w * r for w, r in zip(weights, reach, strict=True)) / math.fsum(weights)


def _fewest(most: int, planned: int, policy: Policy, null: Null | None) -> int:
    """Return how many pictures of one person among `most` any level takes, whatever the controls show."""
    lowest = policy.low_agreement
    if null is not None:
        # A lower score than that of a share `low_p` of the controls is no finding.
        lowest = max(lowest, quantile(null.agreement, 1 - policy.low_p))
    times = planned if null is None else 1
    for k in range(2, most + 1):
        chance = math.comb(2 * most - k, most - k) / math.comb(2 * most, most)
        if _pairs(k) >= lowest * _pairs(most) and chance * times <= policy.alpha:
            return k
    return most


def _pairs(pictures: int) -> int:
    return math.comb(pictures, 2)


def _reach(k: int, n: int, more: int, fewest: int) -> float:
    """Return the chance of at least `fewest` in `n + more` draws after `k` in `n`, under Jeffreys' prior."""
    from scipy import stats

    return float(stats.betabinom.sf(fewest - k - 1, more, k + 0.5, n - k + 0.5))

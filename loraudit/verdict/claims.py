"""Claims: the answer of one attack to one question, under a policy, before the strongest is chosen."""

from collections.abc import Sequence
from dataclasses import dataclass

from loraudit.evidence.faces import AttackEvidence
from loraudit.evidence.intervals import Comparison, Share
from loraudit.evidence.null import Null, agreement_score, conformal_p, likeness_score
from loraudit.evidence.statistics import (
    accepted_share,
    accepted_test,
    agreement_share,
    agreement_test,
    likeness_test,
)
from loraudit.findings.finding import Severity
from loraudit.verdict.policy import Policy
from loraudit.verdict.rules import Doubt

__all__ = ["Claim", "accepted_claim", "agreement_claim", "strongest"]


@dataclass(frozen=True)
class Claim:
    """Answer of one attack to one question, before the strongest is chosen."""

    severity: Severity
    evidence: AttackEvidence
    share: Share
    """Share of the tuned model: of matching pairs, or of accepted pictures."""
    base: Share
    """Share of the base model."""
    scrambled: Share | None
    """Share of the scrambled LoRA, None if there is none."""
    tests: tuple[Comparison, ...]
    """Tests against the base model, and against the scrambled LoRA if there is one."""
    conformal: float | None = None
    """p-value among control LoRAs, None without calibration data."""
    doubt: Doubt | None = None
    """Reason why the claim is inconclusive."""
    by_likeness: bool = False
    """True if the severity rests on the likeness, not on pictures that are accepted."""
    blend: bool = False
    """True if the face that comes back may be a blend, as the file looks like several LoRAs merged."""

    @property
    def control(self) -> float:
        """Larger share of the controls, in 0..1."""
        return max(self.base.value, self.scrambled.value if self.scrambled else 0.0)

    @property
    def chance(self) -> float:
        """Larger p-value of the tests, as the tuned pictures have to lead both controls."""
        return max(test.p_value for test in self.tests)


def agreement_claim(evidence: AttackEvidence, policy: Policy, attacks: int, null: Null | None) -> Claim:
    """Judge one of `attacks` attacks by LA-IDENTITY-001, the agreement of reconstructions."""
    other = evidence.against_scrambled
    share, base = (agreement_share(faces, evidence.threshold) for faces in (evidence.tuned, evidence.base))
    scrambled = agreement_share(other.base, evidence.threshold) if other else None
    tests = (agreement_test(evidence), *([agreement_test(other)] if other else []))
    p = None
    if null is not None:
        p = conformal_p(agreement_score(evidence.tuned, evidence.threshold, null.looks), null.agreement)
    claim = Claim(Severity.NONE, evidence, share, base, scrambled, tests, p)
    times = attacks if p is None else 1
    leads = [test.p_value * times <= policy.alpha for test in tests]
    severity, doubt = Severity.NONE, None
    if all(leads) and _beyond(p, policy.low_p) and share.value >= policy.low_agreement:
        severity = Severity.LOW
        if share.value >= policy.medium_agreement and _beyond(p, policy.medium_p):
            severity = Severity.MEDIUM
        if share.value >= policy.high_agreement and share.low > claim.control and _beyond(p, policy.high_p):
            severity = Severity.HIGH
    elif any(leads) and not all(leads) and share.value >= policy.low_agreement and _beyond(p, policy.low_p):
        severity, doubt = Severity.INCONCLUSIVE, Doubt.SCRAMBLED if leads[0] else Doubt.BASE
    elif share.value >= policy.high_agreement:
        severity, doubt = Severity.INCONCLUSIVE, Doubt.CONTROLS if all(leads) else Doubt.BASE
    # Faces blend as the weights do, and one blended face is as consistent as a person's: no less a finding.
    blend = severity > Severity.INCONCLUSIVE and null is not None and policy.merged(null.one_person)
    return Claim(severity, evidence, share, base, scrambled, tests, p, doubt, blend=blend)


def accepted_claim(evidence: AttackEvidence, policy: Policy, null: Null | None) -> Claim | None:
    """Judge one attack by LA-IDENTITY-002, pictures accepted as the reference person; None without photos."""
    other = evidence.against_scrambled
    share = accepted_share(evidence.tuned, evidence.threshold)
    base = accepted_share(evidence.base, evidence.threshold)
    scrambled = accepted_share(other.base, evidence.threshold) if other else None
    if share is None or base is None:
        return None
    tests = (accepted_test(share, base), *([accepted_test(share, scrambled)] if scrambled else []))
    p = None
    if null is not None and null.likeness:
        p = conformal_p(likeness_score(evidence.tuned, null.looks), null.likeness)
    control = Claim(Severity.NONE, evidence, share, base, scrambled, tests, p).control
    severity, doubt = Severity.NONE, None
    if share.k >= policy.least_accepted(p is not None):
        severity, doubt = Severity.INCONCLUSIVE, Doubt.BASE
        if share.value > base.value:
            doubt = Doubt.SCRAMBLED if share.value <= control else Doubt.CONTROLS
    # Without controls there is nothing to lead, so nothing is shown.
    if evidence.controlled and share.value > control and _beyond(p, policy.low_p):
        severity, doubt = Severity.LOW, None
        if share.k >= 2 and share.low > control:
            if _beyond(p, policy.medium_p):
                severity = Severity.MEDIUM
            if share.low >= policy.high_low and _beyond(p, policy.high_p):
                severity = Severity.HIGH
            if share.low >= policy.critical_low and _beyond(p, policy.high_p):
                severity = Severity.CRITICAL
    alike = _alike(evidence, p, policy)
    if alike > severity:
        return Claim(alike, evidence, share, base, scrambled, tests, p, by_likeness=True)
    return Claim(severity, evidence, share, base, scrambled, tests, p, doubt)


def _alike(evidence: AttackEvidence, p: float | None, policy: Policy) -> Severity:
    """Return the severity by the likeness alone; none without calibration data."""
    if p is None or p > policy.medium_p:
        return Severity.NONE
    other = evidence.against_scrambled
    if any(likeness_test(e).p_value > policy.alpha for e in (evidence, other) if e is not None):
        return Severity.NONE
    return Severity.MEDIUM if p <= policy.high_p else Severity.LOW


def _beyond(p: float | None, most: float) -> bool:
    """Tell whether a conformal p-value is at most `most`; True without calibration data."""
    return p is None or p <= most


def strongest(claims: Sequence[Claim], policy: Policy) -> Claim | None:
    """Return the claim that speaks for all: the worst, then the clearest; None if there is none.

    A claim of `none` counts only with at least `policy.min_faces` faces.
    """
    said = [c for c in claims if c.severity > Severity.NONE or c.evidence.tuned.found >= policy.min_faces]
    return max(said, key=lambda c: (c.severity, c.share.value - c.control, -c.chance), default=None)

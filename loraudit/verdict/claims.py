"""Claims: the answer of one attack to one question, under a policy, before the strongest is chosen."""

from collections.abc import Sequence
from dataclasses import dataclass

from loraudit.evidence.faces import AttackEvidence, Faces
from loraudit.evidence.intervals import Comparison, Share
from loraudit.evidence.null import Null, agreement_score, conformal_p, likeness_score
from loraudit.evidence.persons import Person, persons
from loraudit.evidence.statistics import (
    accepted_share,
    accepted_test,
    agreement_share,
    agreement_test,
    likeness_test,
)
from loraudit.findings.finding import Severity, Step
from loraudit.verdict.ladder import Ladder, condition, higher, level_of, lower
from loraudit.verdict.policy import Policy
from loraudit.verdict.rules import Doubt

__all__ = ["Claim", "accepted_claim", "agreement_claim", "strongest"]

_SHARE, _LOW = "share of pairs", "lower end of the 95 % range"
_CHANCE, _P = "p against the controls of the scan", "p among control LoRAs"
_ACCEPTED, _COUNT = "share of accepted pictures", "number of accepted pictures"
_OTHERS = "p among LoRAs of other people"


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
    people: tuple[Person, ...] = ()
    """People in the pictures, if their agreement is judged."""
    higher: tuple[Step, ...] = ()
    """Conditions that keep the claim from the next level."""
    lower: tuple[Step, ...] = ()
    """Conditions that keep the claim from the level below."""

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
    people = persons(evidence.tuned, evidence.threshold)
    several = people if len(people) > 1 else ()
    share = agreement_share(evidence.tuned, evidence.threshold, several)
    base = _of_control(evidence.base, evidence.threshold, bool(several))
    scrambled = _of_control(other.base, evidence.threshold, bool(several)) if other else None
    tests = (agreement_test(evidence), *([agreement_test(other)] if other else []))
    p = None
    if null is not None:
        p = conformal_p(agreement_score(evidence.tuned, evidence.threshold, null.looks), null.agreement)
    claim = Claim(Severity.NONE, evidence, share, base, scrambled, tests, p)
    times = attacks if p is None else 1
    ladder = {
        level: [
            *condition(level, _CHANCE, claim.chance * times, "<=", policy.alpha),
            *condition(level, _P, p, "<=", most),
            *condition(level, _SHARE, share.value, ">=", least),
        ]
        for level, most, least in (
            (Severity.LOW, policy.low_p, policy.low_agreement),
            (Severity.MEDIUM, policy.medium_p, policy.medium_agreement),
            (Severity.HIGH, policy.high_p, policy.high_agreement),
        )
    }
    # Copies as strong as the file may agree on a colour cast, for which control LoRAs answer if they can.
    control = claim.control if p is None else base.value
    ladder[Severity.HIGH] += condition(Severity.HIGH, _LOW, share.low, ">", control)
    severity, doubt = level_of(ladder), None
    down = lower(ladder, severity)
    agree = condition(Severity.NONE, _SHARE, share.value, ">=", policy.high_agreement)
    if severity is Severity.NONE and agree[0].holds:
        severity, down = Severity.INCONCLUSIVE, tuple(agree)
        leads = [test.p_value * times <= policy.alpha for test in tests]
        doubt = Doubt.CONTROLS if all(leads) else Doubt.SCRAMBLED if leads[0] else Doubt.BASE
    # Faces blend as the weights do, and one blended face is as consistent as a person's: no less a finding.
    blend = severity > Severity.INCONCLUSIVE and null is not None and policy.merged(null.one_person)
    up = higher(ladder, severity)
    return Claim(severity, evidence, share, base, scrambled, tests, p, doubt, False, blend, people, up, down)


def _of_control(faces: Faces, threshold: float, several: bool) -> Share:
    """Return the agreement of a control, judged as the tuned pictures are if these show `several` people."""
    share = agreement_share(faces, threshold)
    people = persons(faces, threshold) if several else ()
    apart = agreement_share(faces, threshold, people) if len(people) > 1 else share
    return max(share, apart, key=lambda one: one.value)


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
    ladder = _accepted_ladder(share, control, p, policy)
    # Without controls there is nothing to lead, so nothing is shown.
    severity, doubt = level_of(ladder) if evidence.controlled else Severity.NONE, None
    up, down = higher(ladder, severity), lower(ladder, severity)
    if severity is Severity.NONE:
        passing = condition(Severity.NONE, _COUNT, float(share.k), ">=", policy.least_accepted(p is not None))
        if passing[0].holds:
            severity, doubt, down = Severity.INCONCLUSIVE, Doubt.BASE, tuple(passing)
            if share.value > base.value:
                doubt = Doubt.SCRAMBLED if share.value <= control else Doubt.CONTROLS
    alike = _alike_ladder(evidence, p, policy)
    if alike and level_of(alike) > severity:
        severity = level_of(alike)
        up = higher(alike, severity) or higher(ladder, severity)
        down = lower(alike, severity)
        return Claim(
            severity, evidence, share, base, scrambled, tests, p, by_likeness=True, higher=up, lower=down
        )
    return Claim(severity, evidence, share, base, scrambled, tests, p, doubt, higher=up, lower=down)


def _accepted_ladder(share: Share, control: float, p: float | None, policy: Policy) -> Ladder:
    ladder = {
        Severity.LOW: [
            *condition(Severity.LOW, _ACCEPTED, share.value, ">", control),
            *condition(Severity.LOW, _OTHERS, p, "<=", policy.low_p),
        ]
    }
    for level, most, least in (
        (Severity.MEDIUM, policy.medium_p, None),
        (Severity.HIGH, policy.high_p, policy.high_low),
        (Severity.CRITICAL, policy.high_p, policy.critical_low),
    ):
        ladder[level] = [
            *condition(level, _COUNT, float(share.k), ">=", 2),
            *condition(level, _LOW, share.low, ">", control),
            *condition(level, _OTHERS, p, "<=", most),
            *([] if least is None else condition(level, _LOW, share.low, ">=", least)),
        ]
    return ladder


def _alike_ladder(evidence: AttackEvidence, p: float | None, policy: Policy) -> Ladder | None:
    """Return the levels by the likeness alone; None where it tells nothing, as without calibration data."""
    if p is None or p > policy.medium_p:
        return None
    other = evidence.against_scrambled
    if any(likeness_test(e).p_value > policy.alpha for e in (evidence, other) if e is not None):
        return None
    return {
        level: condition(level, _OTHERS, p, "<=", most)
        for level, most in ((Severity.LOW, policy.medium_p), (Severity.MEDIUM, policy.high_p))
    }


def strongest(claims: Sequence[Claim], policy: Policy) -> Claim | None:
    """Return the claim that speaks for all: the worst, then the clearest; None if there is none.

    A claim of `none` counts only with at least `policy.min_faces` faces.
    """
    said = [c for c in claims if c.severity > Severity.NONE or c.evidence.tuned.found >= policy.min_faces]
    return max(said, key=lambda c: (c.severity, c.share.value - c.control, -c.chance), default=None)

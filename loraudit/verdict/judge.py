"""Judgement: from evidence to findings, the strongest claim to each question in words and numbers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from loraudit.evidence.faces import AttackEvidence
from loraudit.evidence.holding import NO_FACE, NO_SINGLE_PERSON, Holding, holding
from loraudit.evidence.kinds import Evidence
from loraudit.evidence.likelihood import Likelihood
from loraudit.evidence.null import Null
from loraudit.findings.finding import Confidence, Finding, Severity
from loraudit.verdict.claims import Claim, accepted_claim, agreement_claim, strongest
from loraudit.verdict.copies import judge_copies
from loraudit.verdict.ladder import condition
from loraudit.verdict.likelihood import judge_likelihood
from loraudit.verdict.policy import Policy
from loraudit.verdict.rules import (
    ACCEPTED,
    AGREEMENT,
    ALIKE,
    BLEND,
    NO_CONTROLS,
    SEVERAL,
    TOO_FEW_FACES,
    Rule,
)

__all__ = ["judge", "judge_identity"]

_POLICY: Final = Policy()


def judge(
    evidence: Sequence[Evidence],
    policy: Policy = _POLICY,
    null: Null | None = None,
    planned: int | None = None,
) -> tuple[Finding, ...]:
    """Judge evidence of every kind: findings on identity, near-copies and likelihood, worst first.

    The arguments are those of `judge_identity`. Without any evidence the finding on identity is inconclusive.
    """
    pictured = [e for e in evidence if isinstance(e, AttackEvidence)]
    findings = [
        *(judge_identity(pictured, policy, null, planned) if pictured or not evidence else ()),
        *judge_copies(pictured, policy),
        *(judge_likelihood(e, policy) for e in evidence if isinstance(e, Likelihood)),
    ]
    return tuple(sorted(findings, key=lambda finding: finding.severity, reverse=True))


def judge_identity(
    evidence: Sequence[AttackEvidence],
    policy: Policy = _POLICY,
    null: Null | None = None,
    planned: int | None = None,
) -> tuple[Finding, ...]:
    """Judge who is on the pictures, under the table in `Policy`: findings, worst first.

    Without any evidence the finding is inconclusive. `null` holds the scores of control LoRAs; None: there
    are no calibration data. `planned` is the number of attacks that were to run; None: as many as did.
    """
    attacks = planned or len(evidence)
    held = holding(evidence, policy.min_faces, policy.high_p, policy.medium_p, null)
    findings = [*_too_few_faces(evidence, policy, held, calibrated=null is not None)]
    agreement = [
        agreement_claim(e, policy, attacks, null)
        for e in evidence
        if e.tuned.found >= policy.min_faces and not e.likeness_only
    ]
    accepted = [one for e in evidence if (one := accepted_claim(e, policy, null)) is not None]
    if claim := strongest(agreement, policy):
        found = _finding(AGREEMENT, claim, policy, attacks, null)
        if claim.severity is Severity.NONE and held.kind == NO_SINGLE_PERSON:
            found = replace(found, detail=f"{found.detail} {held.says}")
        findings.append(found)
    if claim := strongest(accepted, policy):
        findings.append(_finding(ACCEPTED, claim, policy, attacks, null))
    return tuple(sorted(findings, key=lambda finding: finding.severity, reverse=True))


def _confidence(claim: Claim, policy: Policy, attacks: int) -> Confidence:
    sure = _sure(claim, policy, attacks)
    if not claim.evidence.threshold_from:
        return sure
    return Confidence.MEDIUM if sure is Confidence.HIGH else Confidence.LOW


def _sure(claim: Claim, policy: Policy, attacks: int) -> Confidence:
    """Return the confidence where the threshold of the face model was measured."""
    if claim.severity is Severity.NONE:
        return Confidence.LOW if claim.conformal is None else Confidence.MEDIUM
    unsure = claim.severity is Severity.INCONCLUSIVE or claim.blend
    if unsure or claim.evidence.base.found < policy.min_faces:
        return Confidence.LOW
    calibrated = claim.conformal is not None and claim.conformal <= policy.high_p
    strong = claim.chance * (attacks if claim.conformal is None else 1) <= policy.strong_alpha
    if calibrated and strong:
        return Confidence.HIGH
    return Confidence.MEDIUM if calibrated or strong else Confidence.LOW


def _finding(rule: Rule, claim: Claim, policy: Policy, attacks: int, null: Null | None) -> Finding:
    leak = claim.severity > Severity.INCONCLUSIVE
    words = rule.doubts[claim.doubt] if claim.doubt else rule.words[claim.severity]
    if claim.by_likeness:
        words = ALIKE
    if claim.blend:
        words = BLEND
    if leak and len(claim.people) > 1:
        words = SEVERAL[claim.severity]
    tuned, base, scrambled, evidence = claim.share, claim.base, claim.scrambled, claim.evidence
    controls = f"base model alone: {base.k} of {base.n}" if evidence.controlled else NO_CONTROLS
    sets = {"": evidence.tuned, "base model ": evidence.base}
    if scrambled and evidence.scrambled:
        controls += f", scrambled copy: {scrambled.k} of {scrambled.n}"
        sets["scrambled copy "] = evidence.scrambled
    faceless = [
        f"{name}{found.found} of {found.pictures}"
        for name, found in sets.items()
        if found.found < found.pictures
    ]
    borrowed = f"; threshold {_borrowed(evidence)}" if evidence.threshold_from else ""
    faces = f"Faces found in {', '.join(faceless)} pictures. " if faceless else ""
    if evidence.weaker:
        faces += "No scrambled copy moves the model as much as the file does. "
    detail = (
        f"Attack {evidence.attack}: {tuned.k} of {tuned.n} {rule.seen} (cosine {evidence.threshold:.2f} or "
        f"more, as 1 in {round(1 / evidence.far)} strangers{borrowed}); {controls}. "
        f"{faces}{_people(claim) if leak else ''}{_calibrated(rule, claim, null)}{rule.caveat}"
    ).rstrip()
    to_do = f"{rule.remedy} {words.next_step}".rstrip() if leak else words.next_step or rule.next_step
    if evidence.tuned.to_reference is None and not words.next_step:
        to_do = f"{to_do} {rule.without_photos}".rstrip()
    return Finding(
        rule.id,
        claim.severity,
        _confidence(claim, policy, attacks),
        words.title,
        detail,
        to_do,
        words.summary,
        _numbers(claim, policy, attacks, null),
        evidence.quotes,
        higher=claim.higher,
        lower=claim.lower,
    )


def _people(claim: Claim) -> str:
    """Tell how many people share the pictures, if there is more than one."""
    if len(claim.people) < 2:
        return ""
    told = ", ".join(str(person.pictures) for person in claim.people)
    n = claim.evidence.tuned.pictures
    return f"{len(claim.people)} people, in {told} of {n} pictures; pairs of two people are left out. "


def _borrowed(evidence: AttackEvidence) -> str:
    return f"taken from {evidence.threshold_from}, not measured on this crop"


def _calibrated(rule: Rule, claim: Claim, null: Null | None) -> str:
    if null is None or claim.conformal is None:
        return "No calibration data were used. "
    controls = len(null.likeness if rule is ACCEPTED else null.agreement)
    as_much = round(claim.conformal * (controls + 1)) - 1
    return f"{as_much} of {controls} {rule.controls} reach as much. "


def _too_few_faces(
    evidence: Sequence[AttackEvidence], policy: Policy, held: Holding, calibrated: bool
) -> tuple[Finding, ...]:
    """Judge attacks that brought back too few faces by LA-IDENTITY-003: unknown, or something else shown."""
    short = [e for e in evidence if e.tuned.found < policy.min_faces]
    failed = [e for e in short if e.aims_at_face]
    if len(short) < len(evidence) and not failed:
        return ()
    told = failed or short
    severity, confidence = Severity.INCONCLUSIVE, Confidence.HIGH
    if held.kind == NO_FACE:
        severity, confidence = Severity.NONE, Confidence.MEDIUM if calibrated else Confidence.LOW
    words = TOO_FEW_FACES.words[severity]
    seen = "; ".join(f"{e.attack}: {e.tuned.found} of {e.tuned.pictures}" for e in told) or "no attack ran"
    reason = held.says if severity is Severity.NONE else TOO_FEW_FACES.caveat
    most = max((e.tuned.found for e in told), default=0)
    numbers: dict[str, float | int | str | None] = {
        "faces": sum(e.tuned.found for e in told),
        "pictures": sum(e.tuned.pictures for e in told),
        "min_faces": policy.min_faces,
        "policy": policy.version,
    }
    if severity is Severity.NONE:
        numbers |= {"holds": held.kind, "p_value": held.p}
    return (
        Finding(
            TOO_FEW_FACES.id,
            severity,
            confidence,
            words.title,
            f"Faces found in the reconstructions: {seen}. At least {policy.min_faces} are needed to compare. "
            f"{reason}",
            words.next_step or TOO_FEW_FACES.next_step,
            words.summary,
            numbers,
            lower=tuple(
                condition(Severity.NONE, "number of faces", float(most), "<=", policy.min_faces - 1)
                if severity > Severity.NONE
                else ()
            ),
        ),
    )


def _numbers(
    claim: Claim, policy: Policy, attacks: int, null: Null | None
) -> dict[str, float | int | str | None]:
    evidence, share, base = claim.evidence, claim.share, claim.base
    worse = max(claim.tests, key=lambda test: test.p_value)
    numbers: dict[str, float | int | str | None] = {
        "attack": evidence.attack,
        "attacks": attacks,
        "value": share.value,
        "k": share.k,
        "n": share.n,
        "low": share.low,
        "high": share.high,
        "threshold": evidence.threshold,
        "far": evidence.far,
        "policy": policy.version,
    }
    if evidence.controlled:
        numbers |= {
            "base_value": base.value,
            "base_k": base.k,
            "base_n": base.n,
            "null_p95": worse.null_p95,
            "p_value": worse.p_value,
        }
    if evidence.threshold_from:
        numbers["threshold_from"] = _borrowed(evidence)
    if claim.people and claim.severity > Severity.INCONCLUSIVE:
        numbers["people"] = len(claim.people)
    if claim.scrambled:
        numbers["scrambled_value"] = claim.scrambled.value
    if null is not None and claim.conformal is not None:
        numbers["calibrated_p"] = claim.conformal
    if null is not None and claim.blend:
        numbers["one_person_p"] = null.one_person
    return numbers

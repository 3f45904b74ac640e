"""People who come back: those in the pictures of the attack behind the finding on identity."""

import math
from collections.abc import Sequence
from itertools import combinations

from loraudit.evidence.faces import AttackEvidence, Faces
from loraudit.evidence.intervals import wilson_interval
from loraudit.evidence.persons import Person, persons
from loraudit.findings.exhibits import Returned
from loraudit.findings.finding import Finding, Severity
from loraudit.verdict.rules import AGREEMENT

__all__ = ["returned"]


def returned(findings: Sequence[Finding], evidence: Sequence[AttackEvidence]) -> tuple[Returned, ...]:
    """List the people behind a finding on agreement, the most frequent first; none without such a finding.

    Each is compared with the reference photos, if there are any.
    """
    attacks = {
        finding.numbers.get("attack")
        for finding in findings
        if finding.id == AGREEMENT.id and finding.severity > Severity.INCONCLUSIVE
    }
    return tuple(
        _returned(one, person)
        for one in evidence
        if one.attack in attacks
        for person in persons(one.tuned, one.threshold)
    )


def _returned(evidence: AttackEvidence, person: Person) -> Returned:
    faces = evidence.tuned
    accepted = cosine = None
    if faces.to_reference is not None:
        compared = [faces.to_reference[face] for face in person.faces]
        accepted = sum(value >= evidence.threshold for value in compared)
        cosine = max(-1.0, min(1.0, math.fsum(compared) / _length(faces, person)))
    low, high = wilson_interval(person.pictures, faces.pictures)
    return Returned(evidence.attack, person.pictures, faces.pictures, low, high, cosine, accepted)


def _length(faces: Faces, person: Person) -> float:
    """Return the length of the sum of a person's face vectors, which follows from their cosines."""
    mine = set(person.faces)
    places = combinations(range(faces.found), 2)
    within = [cosine for (i, j), cosine in zip(places, faces.pairs, strict=True) if i in mine and j in mine]
    return math.sqrt(len(mine) + 2 * math.fsum(within))

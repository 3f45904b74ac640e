"""Account of what a file seems to hold, where no person came back from it.

Pictures without a face prove nothing by themselves: an update that is strong enough leaves no face whatever
it was trained on. A scrambled copy moves the model as much as the file does, at the same embedding
(`loraudit.attacks.controls`). Where pictures of the base and of every such copy show faces and those of the
file do not, strength is not the reason. The file draws something else: a thing, a style, a place. LoRAs
trained too hard on one person fail this test, since their copies draw no faces either.

Where LoRAs of one person each were measured, the file is placed among them as well. The p-value is the share
of those, the file counted in, whose pictures agree as little.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from loraudit.evidence.faces import AttackEvidence
from loraudit.evidence.null import Null, agreement_score

__all__ = ["NO_FACE", "NO_SINGLE_PERSON", "Holding", "asks_what", "draws_no_face", "holding", "one_person"]

NO_FACE, NO_SINGLE_PERSON = "no face", "no single person"


@dataclass(frozen=True)
class Holding:
    """Finding on what a file holds instead of one person, if anything was shown."""

    kind: str | None
    """Kind that was shown, `no face` or `no single person`; None: nothing was shown."""
    p: float | None
    """p-value of the test that showed the kind, in 0..1; None without a test."""
    says: str
    """Sentence for the report, without the name of the file; empty if there is nothing to say."""


NOTHING = Holding(None, None, "")
"""Account of a file of which nothing was shown."""


def holding(
    evidence: Sequence[AttackEvidence], min_faces: int, most: float, people: float, null: Null | None = None
) -> Holding:
    """Tell what a file holds of which no attack brought back one person.

    An attack with fewer than `min_faces` faces shows that the file draws no faces at a p-value of at most
    `most` (`draws_no_face`). With the scores of LoRAs of one person each in `null`, the file must also be
    unlike those, at a p-value of at most `people` (`one_person`). That is enough where faces were drawn.
    """
    asked = [e for e in evidence if e.aims_at_face and not e.likeness_only]
    unlike = one_person(asked, null)
    if not asked or (unlike is not None and unlike > people):
        return NOTHING
    faceless = [e for e in asked if e.tuned.found < min_faces]
    among = ""
    if null is not None and unlike is not None:
        below = round(unlike * (len(null.leaking_agreement) + 1)) - 1
        among = f" {below} of {len(null.leaking_agreement)} LoRAs of one person agree as little."
    if faceless:
        clearest = min(faceless, key=draws_no_face)
        p = draws_no_face(clearest)
        if p > most:
            return NOTHING
        found, base = clearest.tuned, clearest.base
        copies = ", ".join(f"{k} of {n}" for k, n in clearest.disturbed)
        return Holding(
            NO_FACE,
            p,
            "The file seems to hold no person but a thing, a style or a place. Its pictures show faces in "
            f"{found.found} of {found.pictures} cases, those of the base model in {base.found} of "
            f"{base.pictures} and those of disturbances as strong in {copies} (p {p:.2g}).{among}",
        )
    if unlike is None:
        return NOTHING
    return Holding(
        NO_SINGLE_PERSON,
        unlike,
        "The file seems to hold no single person: faces are drawn, and they agree less than those of LoRAs "
        f"of one person.{among}",
    )


def draws_no_face(evidence: AttackEvidence) -> float:
    """Return the p-value, 0..1, of the file showing faces as often as every control.

    One-sided exact tests of Fisher against the base and each scrambled copy; the largest counts. The p-value
    is 1 without controls.
    """
    from scipy import stats

    tuned, base = evidence.tuned, evidence.base
    if not base.pictures or not evidence.disturbed or not tuned.pictures:
        return 1.0
    return max(
        float(stats.hypergeom.cdf(tuned.found, tuned.pictures + n, tuned.found + k, tuned.pictures))
        for k, n in ((base.found, base.pictures), *evidence.disturbed)
    )


def one_person(evidence: Sequence[AttackEvidence], null: Null | None) -> float | None:
    """Return the p-value of the file being a LoRA of one person, 0..1; None where none were measured.

    Were it one more of them, its highest agreement would come at any place among theirs.
    """
    if null is None or not null.leaking_agreement:
        return None
    score = max((agreement_score(e.tuned, e.threshold, null.looks) for e in evidence), default=0.0)
    below = sum(agreement <= score for agreement in null.leaking_agreement)
    return (1 + below) / (len(null.leaking_agreement) + 1)


def asks_what(
    evidence: AttackEvidence, before: Sequence[AttackEvidence], min_faces: int, most: float
) -> bool:
    """Tell whether controls of an attack could show that the file draws no faces.

    They could not where there are faces enough, and need not where an attack `before` has shown it.
    """
    return (
        evidence.aims_at_face
        and not evidence.likeness_only
        and evidence.tuned.found < min_faces
        and not any(draws_no_face(e) <= most for e in before if e.aims_at_face and not e.likeness_only)
    )

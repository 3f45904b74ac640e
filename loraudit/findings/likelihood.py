"""The likelihood test's numbers, and what they say of the reference photos."""

from dataclasses import dataclass

from loraudit.findings.null import conformal_p
from loraudit.findings.policy import Policy
from loraudit.findings.rules import LIKELIHOOD
from loraudit.findings.vocabulary import Confidence, Finding, Score, Severity

__all__ = ["Likelihood", "judge_likelihood", "likelihood_score"]


@dataclass(frozen=True)
class Likelihood:
    """Gains in log-likelihood, in nats of the denoising loss."""

    own: float
    """Of the reference photos, mean."""
    decoys: tuple[float, ...]
    """Of each other person's photos, mean."""
    photos: int
    """Of each person."""

    @property
    def p_value(self) -> float:
        """Chance of such a place among the decoys if the file does not know the person."""
        return conformal_p(self.own, self.decoys)


def judge_likelihood(found: Likelihood, policy: Policy) -> Finding:
    """What the test says: never `high`, for one stranger in a hundred leads 99 decoys by luck."""
    p = found.p_value
    level = Severity.MEDIUM if p <= policy.high_p else Severity.LOW if p <= policy.medium_p else Severity.NONE
    words = LIKELIHOOD.words[level]
    below = sum(decoy < found.own for decoy in found.decoys)
    return Finding(
        LIKELIHOOD.id,
        level,
        Confidence.LOW if level is Severity.LOW else Confidence.MEDIUM,
        words.title,
        f"The file makes the reference photos more probable than those of {below} of {len(found.decoys)} "
        f"{LIKELIHOOD.seen} {LIKELIHOOD.caveat}",
        LIKELIHOOD.remedy if level is Severity.MEDIUM else LIKELIHOOD.next_step,
        words.summary,
        {
            "value": found.own,
            "decoys": len(found.decoys),
            "photos": found.photos,
            "p_value": p,
            "policy": policy.version,
        },
    )


def likelihood_score(found: Likelihood) -> Score:
    """The gain of the reference photos beside that of 95 in 100 decoys."""
    ordered = sorted(found.decoys)
    return Score(
        "likelihood", "likelihood", "reference", found.own, found.photos,
        null_p95=ordered[int(0.95 * (len(ordered) - 1))] if ordered else None, p_value=found.p_value,
    )  # fmt: skip

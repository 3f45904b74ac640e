"""Verdict on the likelihood test: knowledge of the reference photos."""

from loraudit.evidence.likelihood import Likelihood
from loraudit.findings.finding import Confidence, Finding, Severity
from loraudit.verdict.policy import Policy
from loraudit.verdict.rules import LIKELIHOOD

__all__ = ["judge_likelihood"]


def judge_likelihood(found: Likelihood, policy: Policy) -> Finding:
    """Judge the test by LA-IDENTITY-004.

    The severity is never `high`: one stranger in a hundred leads 99 decoys by luck.
    """
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

"""Verdict on the likelihood test: knowledge of the reference photos."""

from loraudit.evidence.likelihood import Likelihood
from loraudit.findings.finding import Confidence, Finding, Severity
from loraudit.verdict.ladder import condition, higher, level_of, lower
from loraudit.verdict.policy import Policy
from loraudit.verdict.rules import LIKELIHOOD

__all__ = ["judge_likelihood"]


def judge_likelihood(found: Likelihood, policy: Policy) -> Finding:
    """Judge the test by LA-IDENTITY-004.

    The severity is never `high`: one stranger in a hundred leads 99 decoys by luck.
    """
    p = found.p_value
    ladder = {
        one: condition(one, "p among other people", p, "<=", most)
        for one, most in ((Severity.LOW, policy.medium_p), (Severity.MEDIUM, policy.high_p))
    }
    level = level_of(ladder)
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
        higher=higher(ladder, level),
        lower=lower(ladder, level),
    )

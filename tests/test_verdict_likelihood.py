"""The place of the reference photos among other people's decides, at every level's bound, and no further."""

import pytest

from loraudit.evidence.likelihood import Likelihood, likelihood_score
from loraudit.findings.finding import Confidence, Severity
from loraudit.verdict.likelihood import judge_likelihood
from loraudit.verdict.policy import Policy
from loraudit.verdict.rules import LIKELIHOOD

POLICY = Policy()


@pytest.mark.parametrize(
    ("above", "level", "trust"),
    [
        (0, Severity.MEDIUM, Confidence.MEDIUM),
        (1, Severity.LOW, Confidence.LOW),
        (4, Severity.LOW, Confidence.LOW),
        (5, Severity.NONE, Confidence.MEDIUM),
        (99, Severity.NONE, Confidence.MEDIUM),
    ],
)
def test_the_level_at_its_bounds(above, level, trust):
    found = Likelihood(0.5, (0.9,) * above + (0.1,) * (99 - above), 3)
    finding = judge_likelihood(found, POLICY)
    assert (finding.severity, finding.confidence) == (level, trust)
    assert finding.numbers == {
        "value": 0.5, "decoys": 99, "photos": 3, "p_value": (1 + above) / 100, "policy": POLICY.version,
    }  # fmt: skip
    assert f"{99 - above} of 99" in finding.detail
    assert finding.remedy == (LIKELIHOOD.remedy if level is Severity.MEDIUM else LIKELIHOOD.next_step)


def test_a_decoy_that_gains_as_much_counts_against_it_and_is_not_below():
    found = Likelihood(0.5, (0.5,) * 5 + (0.1,) * 94, 3)
    assert found.p_value == 6 / 100
    assert "94 of 99" in judge_likelihood(found, POLICY).detail
    assert judge_likelihood(found, POLICY).severity is Severity.NONE


def test_the_score_stands_beside_that_of_the_decoys():
    score = likelihood_score(Likelihood(0.5, tuple(0.01 * i for i in range(98, -1, -1)), 3))
    assert (score.value, score.n, score.p_value) == (0.5, 3, 50 / 100)
    assert score.null_p95 == pytest.approx(0.93)
    assert likelihood_score(Likelihood(0.5, (), 3)).null_p95 is None
    assert likelihood_score(Likelihood(0.5, (0.2,), 3)).null_p95 == 0.2

"""The chances behind early stopping, against other ways to get them: integrals, draws, the exact test."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

import loraudit.verdict.stopping as stopping
from loraudit.evidence.intervals import quantile
from loraudit.evidence.null import Null, conformal_p
from loraudit.evidence.statistics import agreement_test
from loraudit.verdict.claims import agreement_claim
from loraudit.verdict.policy import Policy
from tests.seen import seen

POLICY = Policy()
FAR = (0.05, -0.1, 0.1, 0.0, 0.08, -0.06, 0.12, 0.02)


def reach(k, n, more, fewest):
    """Integral over the common chance, whose density after `k` of `n` is Beta under Jeffreys' prior."""
    after = stats.beta(k + 0.5, n - k + 0.5)
    found, _ = integrate.quad(
        lambda p: after.pdf(p) * stats.binom.sf(fewest - k - 1, more, p), 0, 1, limit=200, epsabs=1e-10
    )
    return found


@pytest.mark.parametrize(
    ("k", "n", "more", "fewest"), [(3, 8, 8, 5), (1, 8, 4, 2), (5, 8, 8, 9), (7, 8, 24, 20), (2, 8, 8, 2)]
)
def test_the_pictures_to_come_are_beta_binomial(k, n, more, fewest):
    assert stopping._reach(k, n, more, fewest) == pytest.approx(reach(k, n, more, fewest), abs=1e-6)
    assert stopping._reach(k, n, more, k) == 1.0
    assert stopping._reach(k, n, more, k + more + 1) == 0.0


@given(st.integers(0, 8), st.integers(0, 16), st.integers(0, 24))
def test_a_higher_aim_is_never_likelier_and_more_seen_never_makes_it_less_likely(k, more, fewest):
    here = stopping._reach(k, 8, more, fewest)
    assert 0 <= stopping._reach(k, 8, more, fewest + 1) <= here <= 1 + 1e-12
    if k < 8:
        assert here <= stopping._reach(k + 1, 8, more, fewest) + 1e-12
    assert stopping._reach(k, 8, more + 1, fewest) >= here - 1e-12


@pytest.mark.parametrize("one_person", [2, 3, 5])
def test_pairs_that_match_are_of_one_person_as_far_as_they_go(one_person):
    who = [0] * one_person + [f"p{i}" for i in range(8 - one_person)]
    claim = agreement_claim(seen(who), POLICY, 1, None)
    assert stopping._more(claim, 16, 6) == pytest.approx(reach(one_person, 8, 8, 6), abs=1e-6)
    # Pairs of two different couples are taken for three pictures of one person: the next larger number.
    claim = agreement_claim(seen([0, 0, 1, 1, 2, 3, 4, 5]), POLICY, 1, None)
    assert stopping._more(claim, 16, 6) == pytest.approx(reach(3, 8, 8, 6), abs=1e-6)


def test_without_a_pair_one_picture_or_none_shows_the_person():
    claim = agreement_claim(seen(list(range(8))), POLICY, 1, None)
    none, one = (stats.betabinom.pmf(k, 8, 0.5, 0.5) for k in (0, 1))
    expected = (none * reach(0, 8, 8, 4) + one * reach(1, 8, 8, 4)) / (none + one)
    assert stopping._more(claim, 16, 4) == pytest.approx(expected, abs=1e-6)


def least(most, reached):
    """The fewest pictures of one person among `most` for which `reached` holds of the evidence."""
    return next(
        (k for k in range(2, most + 1) if reached(seen([0] * k + [f"p{i}" for i in range(most - k)]))), most
    )


@pytest.mark.parametrize("most", [4, 6, 8])
@pytest.mark.parametrize("planned", [1, 4, 500])
@pytest.mark.parametrize("alpha", [0.05, 0.5, math.comb(12, 4) / math.comb(16, 8)])
def test_below_the_fewest_no_level_can_be_reached(most, planned, alpha):
    """By the exact test against controls that match nothing, and by the lowest share."""
    policy = dataclasses.replace(POLICY, alpha=alpha)

    def reached(evidence, times=planned, low=policy.low_agreement):
        claim = agreement_claim(evidence, policy, 1, None)
        return agreement_test(evidence).p_value * times <= alpha and claim.share.value >= low

    assert stopping._fewest(most, planned, policy, None) == least(most, reached)
    # Calibrated, one attack counts, and the share that few controls reach.
    null = Null((8, 16), tuple(0.004 * i for i in range(99)))
    bar = quantile(null.agreement, 1 - policy.low_p)
    assert stopping._fewest(most, planned, policy, null) == least(most, lambda e: reached(e, 1, bar))
    harmless = Null((8,), (0.0,) * 99)
    assert stopping._fewest(most, planned, policy, harmless) == least(most, lambda e: reached(e, 1))


def test_the_lowest_share_counts_where_chance_does_not():
    policy = dataclasses.replace(POLICY, alpha=1.0)
    for most in (8, 16):
        for share in (1 / math.comb(most, 2), 3 / math.comb(most, 2), 0.5):
            at, beyond = (
                stopping._fewest(most, 1, dataclasses.replace(policy, low_agreement=low), None)
                for low in (share, share + 1e-9)
            )
            k = next(k for k in range(2, most + 1) if math.comb(k, 2) / math.comb(most, 2) >= share)
            exact = math.comb(k, 2) / math.comb(most, 2) == share
            assert (at, beyond) == ((k, k + 1) if exact else (k, k))
    assert stopping._fewest(8, 1, dataclasses.replace(policy, low_agreement=2.0), None) == 8


@pytest.mark.parametrize("most", [2, 3, 4, 8, 16])
@pytest.mark.parametrize("highest", [0.0, 0.3, 0.31, 0.6, 1.0])
def test_from_the_fewest_high_on_shares_make_it_high(most, highest):
    null = Null((8, 16), (0.0,) * 97 + (highest,) * 2)
    for given_null in (None, null):
        fewest = stopping._fewest_high(most, POLICY, given_null)
        for k in range(2, most + 1):
            share = math.comb(k, 2) / math.comb(most, 2)
            high = share >= POLICY.high_agreement and (
                given_null is None or conformal_p(share, null.agreement) <= POLICY.high_p
            )
            assert high is (k >= fewest) or (k == fewest == most)


@pytest.mark.parametrize(
    ("count", "bar", "more"),
    [(8, 0.05, 4), (8, 0.1, 8), (8, 0.2, 8), (8, -0.05, 1), (3, 0.15, 4), (3, 0.3, 8)],
)
def test_the_mean_of_all_passes_as_often_as_students_prediction_says(count, bar, more):
    """Draws from the predictive distribution: a variance, a mean, and so many new pictures."""
    rng, cosines, n, draws = np.random.default_rng(3), FAR[:count], count, 400_000
    spread = np.sqrt((n - 1) * np.var(cosines, ddof=1) / rng.chisquare(n - 1, draws))
    mean = rng.normal(np.mean(cosines), spread / math.sqrt(n))
    whole = (np.sum(cosines) + more * rng.normal(mean, spread / math.sqrt(more))) / (n + more)
    assert stopping._mean_passes(cosines, bar, more) == pytest.approx((whole > bar).mean(), abs=0.003)

"""Intervals and p-values: known values, and that they cover and hold their level."""

import math
import random
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from loraudit.evidence.faces import AttackEvidence, Faces
from loraudit.evidence.intervals import Comparison, Share, mean_interval, t_tail, wilson_interval
from loraudit.evidence.statistics import accepted_share, accepted_test, agreement_share, agreement_test
from tests.test_verdict import OTHER, SAME, THRESHOLD, clique, evidence


def test_wilson_interval_known_values():
    # Newcombe (1998), Statistics in Medicine 17, table I: method 3 (score), 81/263, 15/148, 0/20.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson_interval(20, 20)[1] == 1.0
    assert wilson_interval(0, 0) == (0.0, 1.0)


@given(st.integers(1, 400), st.data(), st.sampled_from([0.5, 0.95, 0.998]))
def test_wilson_interval_of_whole_counts_is_that_of_scipy(n, data, confidence):
    k = data.draw(st.integers(0, n))
    known = stats.binomtest(k, n).proportion_ci(confidence, "wilson")
    assert wilson_interval(k, n, confidence) == pytest.approx((known.low, known.high), abs=1e-12)
    # The counts of pairs are fractions: between those of its whole neighbours.
    low, high = wilson_interval(k - k / (2 * n), n, confidence)
    assert low <= known.low + 1e-12 and high <= known.high + 1e-12


@pytest.mark.parametrize(("k", "n"), [(-1, 4), (5, 4), (1, 0)])
def test_wilson_interval_refuses_what_is_no_share(k, n):
    with pytest.raises(ValueError, match="not a share"):
        wilson_interval(k, n)


def test_mean_interval_is_students():
    values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    low, high = mean_interval(values)
    half = 2.3646 * math.sqrt(6.0) / math.sqrt(8)  # t quantile of 7 degrees of freedom
    assert (low, high) == pytest.approx((4.5 - half, 4.5 + half), abs=5e-3)
    assert mean_interval(values[:2]) is None


def test_agreement_interval_does_not_take_pairs_for_independent():
    share = agreement_share(evidence(pictures=16, one_person=12).tuned, THRESHOLD)
    assert (share.k, share.n) == (66, 120)
    assert (share.low, share.high) == pytest.approx(wilson_interval(0.55 * 8, 8))
    independent = wilson_interval(66, 120)
    assert share.high - share.low > 2 * (independent[1] - independent[0])


def test_agreement_interval_covers():
    """Pictures show one person or a stranger, half and half, so a quarter of pairs match."""
    rng, covered, runs = random.Random(7), 0, 400
    for _ in range(runs):
        people = sum(rng.random() < 0.5 for _ in range(16))
        share = agreement_share(Faces(16, 16, clique(16, people)), THRESHOLD)
        covered += share.low <= 0.25 <= share.high
    assert covered / runs >= 0.95


def test_agreement_p_value_is_exact():
    # Only the observed choice of 8 out of 16 puts all eight matching pictures on one side.
    assert agreement_test(evidence(one_person=8)).p_value == 1 / math.comb(16, 8)
    # Six of eight: the other two tuned places may go to any of the ten pictures that match nothing.
    assert agreement_test(evidence(one_person=6)).p_value == math.comb(10, 2) / math.comb(16, 8)
    assert agreement_test(evidence(one_person=8, base_one_person=8)).p_value > 0.5
    assert agreement_test(evidence(one_person=1)).p_value == 1.0


def test_agreement_p_value_is_sampled_the_same_each_time():
    first = agreement_test.__wrapped__(evidence(pictures=16, one_person=8))
    assert first == agreement_test.__wrapped__(evidence(pictures=16, one_person=8))
    assert 1e-4 <= first.p_value < 0.01


def test_agreement_p_value_holds_its_level():
    """Tuned and base pictures from one and the same mixture of three people."""
    rng, small, runs = random.Random(3), 0, 120
    for _ in range(runs):
        people = [rng.randrange(3) for _ in range(12)]
        match = [[SAME if a == b else OTHER for b in people] for a in people]
        tuned, base = (tuple(match[i][j] for i, j in combinations(r, 2)) for r in (range(6), range(6, 12)))
        cross = tuple(match[i][j] for i in range(6) for j in range(6, 12))
        same = AttackEvidence("paper", THRESHOLD, 1e-3, Faces(6, 6, tuned), Faces(6, 6, base), cross)
        small += agreement_test(same).p_value <= 0.05
    assert small / runs <= 0.10


def test_accepted_test_is_fishers():
    def share(k, n):
        return Share(k, n, 0.0, 1.0)

    # Fisher's tea: 3 of 4 against 1 of 4.
    assert accepted_test(share(3, 4), share(1, 4)).p_value == pytest.approx(17 / 70)
    assert accepted_test(share(8, 8), share(0, 8)).p_value == pytest.approx(1 / math.comb(16, 8))
    assert accepted_test(share(0, 8), share(0, 8)).p_value == 1.0
    # Of five accepted, three or fewer of eight are tuned in 85 % of draws, four or fewer in 98.7 %.
    assert accepted_test(share(3, 8), share(2, 8)).null_p95 == 4 / 8
    # Without pictures there is nothing to tell.
    for nothing in (accepted_test(share(0, 0), share(2, 8)), accepted_test(share(0, 0), share(0, 0))):
        assert nothing == Comparison(1.0, 1.0)


def test_accepted_counts_a_picture_without_a_face_as_not_accepted():
    share = accepted_share(evidence(found=6, accepted=6).tuned, THRESHOLD)
    assert (share.k, share.n) == (6, 8)
    assert accepted_share(evidence().tuned, THRESHOLD) is None


def test_t_tail_known_values() -> None:
    # Upper 5 % and 0.5 % points of tables of Student's t, and Cauchy's distribution at 1.
    for nu, point, tail in ((1, 6.314, 0.05), (4, 2.132, 0.05), (7, 3.499, 0.005), (10, 3.169, 0.005)):
        assert t_tail(point, nu) == pytest.approx(tail, rel=1e-3)
        assert t_tail(-point, nu) == pytest.approx(1 - tail, rel=1e-3)
    assert t_tail(1.0, 1) == pytest.approx(0.25)
    assert t_tail(0.0, 6) == 0.5
    with pytest.raises(ValueError, match="degrees of freedom"):
        t_tail(1.0, 0)

"""Intervals and quantiles against scipy's and against their definitions."""

import math
from statistics import fmean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from loraudit.evidence.intervals import mean_interval, quantile, t_tail, wilson_interval


@pytest.mark.parametrize(
    ("nu", "share"), [(2, 0.96945), (3, 0.99263), (4, 0.99745), (5, 0.99890), (7, 0.999699), (15, 0.999985)]
)
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_interval_of_a_mean_is_students_as_near_as_it_says(nu, share, confidence):
    values = [math.sin(i) for i in range(nu + 1)]
    low, high = mean_interval(values, confidence)
    exact = stats.t.ppf((1 + confidence) / 2, nu) * stdev(values) / math.sqrt(nu + 1)
    assert (low + high) / 2 == pytest.approx(fmean(values))
    got = (high - low) / 2 / exact
    assert got == pytest.approx(share, abs=1e-5) if confidence == 0.95 else share < got < 1


def test_two_values_have_no_interval_and_three_have():
    assert mean_interval([1.0, 2.0]) is None
    assert mean_interval([2.0, 2.0, 2.0]) == (2.0, 2.0)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40), st.floats(0.0, 1.0))
def test_a_quantile_is_the_smallest_value_that_enough_do_not_exceed(values, q):
    found = quantile(values, q)
    assert found in values
    assert sum(value <= found for value in values) >= q * len(values) - 1e-9
    assert all(sum(other <= value for other in values) < q * len(values) for value in values if value < found)


def test_quantiles_of_a_hundred():
    values = [float(i) for i in range(1, 101)]
    assert [quantile(values, q) for q in (0.0, 0.001, 0.05, 0.5, 0.95, 1.0)] == [1, 1, 5, 50, 95, 100]


def test_the_ends_of_wilsons_interval_are_exact():
    # Rounding alone would leave some of them beside it, of 9, 13, 21, 36 and 43 among others.
    for n in range(1, 60):
        assert wilson_interval(0, n)[0] == 0.0 and wilson_interval(n, n)[1] == 1.0
        assert 0 < wilson_interval(0, n)[1] < 1 > wilson_interval(n, n)[0] > 0
    assert wilson_interval(0.0, 0.5)[0] == 0.0
    # And below it where the count is nearly none.
    assert wilson_interval(7e-14, 1)[0] == wilson_interval(7e-9, 2)[0] == 0.0


@given(st.floats(-30, 30), st.integers(1, 200))
def test_tails_of_both_signs_make_one(t, nu):
    assert t_tail(t, nu) + t_tail(-t, nu) == pytest.approx(1.0)
    assert t_tail(abs(t) + 0.5, nu) < t_tail(abs(t), nu) <= 0.5 <= t_tail(-abs(t), nu)

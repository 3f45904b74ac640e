"""Intervals, quantiles and tails of distributions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

__all__ = ["Comparison", "Share", "mean_interval", "quantile", "t_tail", "wilson_interval"]


@dataclass(frozen=True)
class Share:
    """A share `k / n` with the ends `low` and `high` of its 95 % interval, in 0..1."""

    k: int
    n: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """Share `k / n` in 0..1; 0 if `n` is 0."""
        return self.k / self.n if self.n else 0.0


@dataclass(frozen=True)
class Comparison:
    """A one-sided test of tuned pictures against those of a control."""

    p_value: float
    """Chance, 0..1, of a difference at least this large if the file's weights made none."""
    null_p95: float
    """Tuned share that chance relabelling exceeds in at most 5 % of cases."""


def wilson_interval(k: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval (1927) of the share `k / n`; counts may be fractional.

    `scipy.stats.binomtest` takes whole counts only, and pairs of pictures have an effective number.
    Returns (0, 1) for `n` = 0. Raises ValueError unless 0 <= k <= n and 0 < confidence < 1.
    """
    if not 0 <= k <= n:
        raise ValueError(f"{k} of {n} is not a share")
    if n == 0:
        return 0.0, 1.0
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    share = k / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    # The bounds at 0 and at n are exactly 0 and 1; rounding leaves them at about 1e-17.
    return (0.0 if k == 0 else max(0.0, centre - half)), (1.0 if k == n else min(1.0, centre + half))


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Return Student's interval of the mean of independent values; None below three values.

    The t quantile is Abramowitz and Stegun 26.7.5, four terms: 3 % off at 2 degrees of freedom, 0.1 % at 7.
    """
    if len(values) < 3:
        return None
    nu = len(values) - 1
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    t = (
        z
        + (z**3 + z) / (4 * nu)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * nu**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * nu**3)
    )
    mean, half = fmean(values), t * stdev(values) / math.sqrt(len(values))
    return mean - half, mean + half


def t_tail(t: float, nu: int) -> float:
    """Return the chance, 0..1, that Student's t with `nu` degrees of freedom exceeds `t`.

    Raises ValueError unless `nu` is at least 1.
    """
    from scipy import stats

    if nu < 1:
        # A tail of nan would pass for no evidence at all.
        raise ValueError(f"{nu} degrees of freedom")
    return float(stats.t.sf(t, nu))


def quantile(values: Sequence[float], q: float) -> float:
    """Return the smallest of `values` that at least a share `q`, 0..1, of them do not exceed."""
    return sorted(values)[max(0, math.ceil(q * len(values)) - 1)]

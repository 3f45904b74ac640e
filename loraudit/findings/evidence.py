"""What an attack brought back, as plain numbers, and the statistics a verdict rests on.

An attack makes `n` pictures from the tuned model and `n` from the untouched base model, with the same
embedding, seeds and settings. The base pictures are the null: what one gets without the file's weights. A
face model turns pictures into embeddings; two faces *match* when their cosine reaches the threshold at which
the model accepts a stranger at a stated false-accept rate (FAR).

Three questions are answered here.

- *Do reconstructions of different seeds agree on one person?* The share of matching pairs is a U-statistic of
  order 2: its pairs share pictures, so they are not independent. Hoeffding (1963, "Probability inequalities
  for sums of bounded random variables", section 5) writes it as an average of averages over `n // 2`
  disjoint, hence independent, pairs, so it varies at most as much as one of those. Intervals use `n // 2` as
  the sample size.
- *Could that be the base model's doing?* A one-sided permutation test: all pictures are pooled, and the label
  "tuned" is given to every possible choice of them (a seeded sample of choices when there are too many). Both
  sides share seeds, so a relabelled group can hold two pictures of one seed, which match more than strangers
  do and make the test stricter, not looser.
- *Are they the person in the reference photos?* Each picture is one trial: Wilson intervals and Fisher's
  exact test against the base pictures.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, combinations
from statistics import NormalDist, fmean, stdev

__all__ = [
    "AttackEvidence",
    "Comparison",
    "Faces",
    "Reading",
    "Share",
    "accepted_share",
    "accepted_test",
    "agreement_share",
    "agreement_test",
    "mean_interval",
    "quantile",
    "wilson_interval",
]

_EXACT_LABELLINGS = 20_000
_DRAWS = 9_999
_SEED = 20240913


@dataclass(frozen=True)
class Faces:
    """The faces found in one set of pictures, in the order of their seeds."""

    pictures: int
    """Pictures made, one per seed."""
    found: int
    """Pictures in which a face was found, at most `pictures`."""
    pairs: tuple[float, ...]
    """Cosines in -1..1 between found faces, in `itertools.combinations` order: `[found (found - 1) / 2]`."""
    to_reference: tuple[float, ...] | None = None
    """Cosine in -1..1 of each found face to the mean embedding of the reference photos, None without."""

    def __post_init__(self) -> None:
        if not 0 <= self.found <= self.pictures:
            raise ValueError(f"{self.found} faces found in {self.pictures} pictures")
        _check("pairs", self.pairs, math.comb(self.found, 2))
        if self.to_reference is not None:
            _check("to_reference", self.to_reference, self.found)


@dataclass(frozen=True)
class Reading:
    """One more similarity, reported and never judged: CLIP-I, CLIP-T."""

    name: str
    """`clip-i` or `clip-t`."""
    against: str
    """Similarity to what: `reference`, `each other`, `class prompt`, `true prompt`."""
    values: tuple[float, ...]
    """Of the tuned model's pictures: one a picture, or one a pair when `against` is `each other`."""
    base_values: tuple[float, ...] = ()
    """The same of the base model's pictures."""


@dataclass(frozen=True)
class AttackEvidence:
    """All that one attack brought back."""

    attack: str
    """`paper`, `prompts:no-trigger`, `prompts:class`, `prompts:trigger`, ..."""
    threshold: float
    """Cosine from which the face model calls two faces one person."""
    far: float
    """False-accept rate of strangers at that threshold, in 0..1."""
    tuned: Faces
    """Pictures made with the LoRA."""
    base: Faces
    """Pictures made without it: same embedding, seeds and settings."""
    cross: tuple[float, ...]
    """Cosines between a found tuned face and a found base face, row by row: `[tuned.found * base.found]`."""
    readings: tuple[Reading, ...] = ()
    aims_at_face: bool = True
    """False where the prompt does not ask for a person, so that a picture without a face is an answer too."""
    quotes: tuple[str, ...] = ()
    """Private words of the file that the attack used (triggers, captions): shown only on request."""

    def __post_init__(self) -> None:
        if not 0 < self.far < 1:
            raise ValueError(f"a false-accept rate of {self.far}")
        _check("cross", self.cross, self.tuned.found * self.base.found)
        if (self.tuned.to_reference is None) != (self.base.to_reference is None):
            raise ValueError("references must be compared with tuned and base pictures alike")


@dataclass(frozen=True)
class Share:
    """A share `k / n` with its 95 % interval."""

    k: int
    n: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """`k / n` in 0..1, 0 if `n` is 0."""
        return self.k / self.n if self.n else 0.0


@dataclass(frozen=True)
class Comparison:
    """A one-sided test of tuned against base."""

    p_value: float
    """Chance of a difference at least this large if the file's weights made none."""
    null_p95: float
    """The tuned share that chance relabelling exceeds in at most 5 % of cases."""


def wilson_interval(k: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval (1927) of a share `k / n`; effective, hence fractional, counts are welcome.

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
    """Student's interval of the mean of independent values; None below three values.

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


def quantile(values: Sequence[float], q: float) -> float:
    """Smallest of the values that at least a share `q` of them do not exceed."""
    return sorted(values)[max(0, math.ceil(q * len(values)) - 1)]


def agreement_share(faces: Faces, threshold: float) -> Share:
    """Share of matching pairs among the found faces, with the interval of `found // 2` independent pairs."""
    k, n = sum(cosine >= threshold for cosine in faces.pairs), len(faces.pairs)
    independent = faces.found // 2
    low, high = wilson_interval(k / n * independent, independent) if n else (0.0, 1.0)
    return Share(k, n, low, high)


def accepted_share(faces: Faces, threshold: float) -> Share | None:
    """Share of all pictures accepted as the reference person, None without references.

    A picture without a face is not accepted.
    """
    if faces.to_reference is None:
        return None
    k = sum(cosine >= threshold for cosine in faces.to_reference)
    return Share(k, faces.pictures, *wilson_interval(k, faces.pictures))


@lru_cache(maxsize=64)  # the verdict and the score table both ask
def agreement_test(evidence: AttackEvidence) -> Comparison:
    """Permutation test of the share of matching pairs among all pictures, tuned minus base.

    A picture without a face matches none. One more matching tuned pair raises the observed difference at
    least as much as that of any relabelling, so more similarity never raises the p-value.
    """
    tuned, base = evidence.tuned, evidence.base
    pool, size = tuned.pictures + base.pictures, tuned.pictures
    tuned_pairs, base_pairs = math.comb(size, 2), math.comb(base.pictures, 2)
    if not tuned_pairs or not base_pairs:
        return Comparison(1.0, 1.0)
    rows, found = _matches(evidence), (1 << tuned.found) - 1 | ((1 << base.found) - 1) << size
    degrees = [row.bit_count() for row in rows]
    all_matches = sum(degrees) // 2

    def compare(group: Sequence[int]) -> tuple[int, float]:
        mask = sum(1 << i for i in group)
        inside = sum((rows[i] & mask).bit_count() for i in group) // 2
        outside = all_matches - sum(degrees[i] for i in group) + inside
        # Shares are cross-multiplied, not divided: equal differences must compare equal.
        difference = inside * base_pairs - outside * tuned_pairs
        return difference, inside / max(1, math.comb((mask & found).bit_count(), 2))

    observed, _ = compare(range(size))
    differences, shares = zip(*map(compare, _labellings(pool, size)), strict=True)
    extreme = sum(difference >= observed for difference in differences)
    # The labelling at hand is one of all, but not of a sample: there it is counted in.
    sampled = math.comb(pool, size) > _EXACT_LABELLINGS
    return Comparison((extreme + sampled) / (len(shares) + sampled), quantile(shares, 0.95))


def accepted_test(tuned: Share, base: Share) -> Comparison:
    """Fisher's exact test, one-sided, of accepted pictures: tuned more often than base."""
    accepted, pool = tuned.k + base.k, tuned.n + base.n
    chances = [
        math.comb(accepted, k) * math.comb(pool - accepted, tuned.n - k) / math.comb(pool, tuned.n)
        for k in range(tuned.n + 1)
    ]
    null = next((k for k, below in enumerate(accumulate(chances)) if below >= 0.95), tuned.n)
    return Comparison(min(1.0, math.fsum(chances[tuned.k :])), null / tuned.n if tuned.n else 1.0)


def _check(name: str, cosines: Sequence[float], length: int) -> None:
    if len(cosines) != length:
        raise ValueError(f"{name}: {len(cosines)} cosines where {length} were due")
    if not all(math.isfinite(cosine) for cosine in cosines):
        raise ValueError(f"{name}: a cosine is not a finite number")


def _matches(evidence: AttackEvidence) -> list[int]:
    """Bit j of row i: pictures i and j match. Tuned pictures first, on each side those with a face first."""
    tuned, base, threshold = evidence.tuned, evidence.base, evidence.threshold
    rows = [0] * (tuned.pictures + base.pictures)
    first = range(tuned.found)
    second = range(tuned.pictures, tuned.pictures + base.found)
    pairs = [*combinations(first, 2), *combinations(second, 2), *((i, j) for i in first for j in second)]
    for (i, j), cosine in zip(pairs, (*tuned.pairs, *base.pairs, *evidence.cross), strict=True):
        if cosine >= threshold:
            rows[i] |= 1 << j
            rows[j] |= 1 << i
    return rows


def _labellings(pool: int, size: int) -> Iterator[Sequence[int]]:
    """Choices of `size` out of `pool` pictures: all of them, or a sample where they are too many."""
    if math.comb(pool, size) <= _EXACT_LABELLINGS:
        yield from combinations(range(pool), size)
        return
    # A fixed seed makes the same evidence give the same p-value.
    rng = random.Random(_SEED)
    for _ in range(_DRAWS):
        yield rng.sample(range(pool), size)

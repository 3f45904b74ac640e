"""What an attack brought back, as plain numbers, and the statistics a verdict rests on.

An attack makes `n` pictures from the tuned model and `n` from the untouched base model, with the same
embedding, seeds and settings, and `n` more with a scrambled LoRA beside it, as large as the file's and of
nobody. These are the controls: what one gets without the file's weights, and with weights that say nothing. A
face model turns pictures into embeddings; two faces *match* when their cosine reaches the threshold at which
the model accepts a stranger at a stated false-accept rate (FAR).

Three questions are answered here.

- *Do reconstructions of different seeds agree on one person?* The share of matching pairs is a U-statistic of
  order 2: its pairs share pictures, so they are not independent. Hoeffding (1963, "Probability inequalities
  for sums of bounded random variables", section 5) writes it as an average of averages over `n // 2`
  disjoint, hence independent, pairs, so it varies at most as much as one of those. Intervals use `n // 2` as
  the sample size.
- *Could that be a control's doing?* For each control a one-sided permutation test: all pictures are pooled,
  and the label "tuned" is given to every possible choice of them (a seeded sample of choices when there are
  too many). Both sides share seeds, so a relabelled group can hold two pictures of one seed, which match more
  than strangers do and make the test stricter, not looser.
- *Are they the person in the reference photos?* Each picture is one trial: Wilson intervals and Fisher's
  exact test against the base pictures.
"""

import math
import random
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import combinations

from loraudit.evidence.faces import AttackEvidence, Faces
from loraudit.evidence.intervals import Comparison, Share, quantile, wilson_interval

__all__ = [
    "accepted_share",
    "accepted_test",
    "agreement_share",
    "agreement_test",
    "likeness",
    "likeness_test",
    "of_pictures",
]

_EXACT_LABELLINGS = 20_000
_DRAWS = 9_999
_SEED = 20240913


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


def likeness(faces: Faces) -> float:
    """Mean cosine of the pictures to the reference person, -1..1; a picture without a face counts 0."""
    return math.fsum(faces.to_reference or ()) / faces.pictures


@lru_cache(maxsize=64)
def likeness_test(evidence: AttackEvidence) -> Comparison:
    """Permutation test of the likeness to the reference person, tuned minus base; as `agreement_test`."""
    tuned, base = evidence.tuned, evidence.base
    pool, size = tuned.pictures + base.pictures, tuned.pictures
    if not size or not base.pictures:
        return Comparison(1.0, 1.0)
    cosines = [*of_pictures(tuned), *of_pictures(base)]
    sums = [math.fsum(cosines[i] for i in group) for group in _labellings(pool, size)]
    extreme = sum(other >= math.fsum(cosines[:size]) for other in sums)
    sampled = math.comb(pool, size) > _EXACT_LABELLINGS
    return Comparison((extreme + sampled) / (len(sums) + sampled), quantile([s / size for s in sums], 0.95))


def of_pictures(faces: Faces) -> list[float]:
    """Cosines to the reference person, one a picture; 0 for those without a face, which come last."""
    found = list(faces.to_reference or ())
    return [*found, *[0.0] * (faces.pictures - len(found))]


@lru_cache(maxsize=64)  # the verdict and the score table both ask
def agreement_test(evidence: AttackEvidence) -> Comparison:
    """Permutation test of the share of matching pairs among all pictures, tuned minus base.

    That of tuned minus scrambled is the test of `evidence.against_scrambled`.

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
    """Test whether more tuned than base pictures are accepted: Fisher's exact test, one-sided."""
    from scipy import stats

    if not tuned.n:
        return Comparison(1.0, 1.0)
    # Both sides draw from one urn under the null; freezing a distribution would take four times as long.
    urn = tuned.n + base.n, tuned.k + base.k, tuned.n
    p_value, null = stats.hypergeom.sf(tuned.k - 1, *urn), stats.hypergeom.ppf(0.95, *urn)
    return Comparison(float(p_value), float(null) / tuned.n)


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

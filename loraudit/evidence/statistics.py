"""Statistics that a verdict on the faces of an attack rests on.

An attack makes `n` pictures from the tuned model and two controls of `n` pictures each, with the same
embedding, seeds and settings. The first control is the untouched base model: the outcome without the file's
weights. The second is a scrambled LoRA, as strong as the file's and of nobody: the outcome with weights that
say nothing. A face model turns pictures into embeddings. Two faces *match* when their cosine reaches the
threshold at which the model accepts a stranger at a stated false-accept rate (FAR).

Three questions are answered here.

- *Do reconstructions of different seeds agree on one person?* The share of matching pairs is a U-statistic of
  order 2. Pairs share pictures, so the pairs are not independent. Hoeffding (1963, "Probability inequalities
  for sums of bounded random variables", section 5) writes the share as an average of averages. Each average
  is over `n // 2` disjoint, hence independent, pairs, and the share varies at most as much as one average.
  Intervals use `n // 2` as the sample size.
- *Could that be a control's doing?* The answer is a one-sided permutation test for each control. All pictures
  are pooled, and the label "tuned" is given to every possible choice of them. Where there are too many
  choices, a seeded sample is taken. Tuned and control pictures share seeds, so a relabelled group can hold
  two pictures of one seed. Such pictures match more than strangers do: the test gets stricter, not looser.
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
from loraudit.evidence.persons import Person

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


def agreement_share(faces: Faces, threshold: float, people: Sequence[Person] = ()) -> Share:
    """Return the share of matching pairs of found faces, the interval of `found // 2` independent pairs.

    Pairs of two different `people` are no pairs of one person, and are left out.
    """
    whose = {face: number for number, person in enumerate(people) for face in person.faces}
    places = combinations(range(faces.found), 2)
    pairs = [
        cosine
        for (i, j), cosine in zip(places, faces.pairs, strict=True)
        if not whose or whose[i] == whose[j]
    ]
    k, n = sum(cosine >= threshold for cosine in pairs), len(pairs)
    independent = faces.found // 2
    low, high = wilson_interval(k / n * independent, independent) if n else (0.0, 1.0)
    return Share(k, n, low, high)


def accepted_share(faces: Faces, threshold: float) -> Share | None:
    """Return the share of all pictures accepted as the reference person, None without references.

    A picture without a face is not accepted.
    """
    if faces.to_reference is None:
        return None
    k = sum(cosine >= threshold for cosine in faces.to_reference)
    return Share(k, faces.pictures, *wilson_interval(k, faces.pictures))


def likeness(faces: Faces) -> float:
    """Return the mean cosine of the pictures to the reference person, -1..1.

    A picture without a face counts 0. Raises ZeroDivisionError without pictures.
    """
    return math.fsum(faces.to_reference or ()) / faces.pictures


@lru_cache(maxsize=64)
def likeness_test(evidence: AttackEvidence) -> Comparison:
    """Test the likeness to the reference person, tuned minus base, by permutation as `agreement_test`."""
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
    """Return the cosines to the reference person, one a picture: 0 for those without a face, at the end."""
    found = list(faces.to_reference or ())
    return [*found, *[0.0] * (faces.pictures - len(found))]


@lru_cache(maxsize=64)  # the verdict and the score table both ask
def agreement_test(evidence: AttackEvidence) -> Comparison:
    """Test the share of matching pairs among all pictures, tuned minus base, by permutation.

    The test of tuned minus scrambled is that of `evidence.against_scrambled`.

    A picture without a face matches none. A further matching tuned pair raises the observed difference at
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
    # All labellings include the one at hand, a sample does not: the sample counts it in.
    sampled = math.comb(pool, size) > _EXACT_LABELLINGS
    return Comparison((extreme + sampled) / (len(shares) + sampled), quantile(shares, 0.95))


def accepted_test(tuned: Share, base: Share) -> Comparison:
    """Test whether more tuned than base pictures are accepted: Fisher's exact test, one-sided."""
    from scipy import stats

    if not tuned.n:
        return Comparison(1.0, 1.0)
    # Tuned and base pictures are drawn from one urn under the null; a frozen distribution is 4 times slower.
    urn = tuned.n + base.n, tuned.k + base.k, tuned.n
    p_value, null = stats.hypergeom.sf(tuned.k - 1, *urn), stats.hypergeom.ppf(0.95, *urn)
    return Comparison(float(p_value), float(null) / tuned.n)


def _matches(evidence: AttackEvidence) -> list[int]:
    """Return a bit mask for each picture: bit j of row i is set if pictures i and j match.

    Tuned pictures come first; among the tuned, and among the base pictures, those with a face come first.
    """
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
    """Yield choices of `size` out of `pool` pictures: all of them, or a sample where they are too many."""
    if math.comb(pool, size) <= _EXACT_LABELLINGS:
        yield from combinations(range(pool), size)
        return
    # A fixed seed makes the same evidence give the same p-value.
    rng = random.Random(_SEED)
    for _ in range(_DRAWS):
        yield rng.sample(range(pool), size)

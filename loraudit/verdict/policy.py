"""Policy of the verdict: its thresholds, versioned."""

from dataclasses import dataclass

__all__ = ["Policy"]


@dataclass(frozen=True)
class Policy:
    """Thresholds of the verdict, version 7.

    `share` and `low` are the tuned share and the lower end of its 95 % interval. `control` is the larger
    share of the two controls, base model and scrambled LoRA. `chance` is the larger p-value of the tests
    against the two, times the number of attacks (Bonferroni). With calibration data, `p` is the conformal
    p-value, which needs no correction, and `chance` is not multiplied. The first line that fits counts:

    | finding | severity | without calibration | with calibration |
    |---|---|---|---|
    | LA-IDENTITY-001, no references | high | chance <= alpha, share >= high_agreement, low > control |
    | | | | and p <= high_p; control is that of the base alone |
    | share of pairs that show one | medium | chance <= alpha, share >= medium_agreement | and p <= medium_p |
    | person | low | chance <= alpha, share >= low_agreement | and p <= low_p |
    | | inconclusive | share >= high_agreement | |
    | | none | otherwise | |
    | LA-IDENTITY-002, references | critical | accepted >= 2, low >= critical_low, low > control |
    | | | | and p <= high_p |
    | share of pictures accepted as | high | accepted >= 2, low >= high_low, low > control | and p <= high_p |
    | that person | medium | accepted >= 2, low > control | and p <= medium_p |
    | | low | share > control | and p <= low_p |
    | | medium, low | | likeness beyond chance of both controls, |
    | | | | and p <= high_p, medium_p |
    | | inconclusive | accepted >= 1: a control comes as close | accepted >= 2 |
    | | none | otherwise | |
    | LA-IDENTITY-003, too few faces | inconclusive | an attack that aims at a face found fewer than |
    | | | min_faces, or no attack found min_faces | the same |
    | | none | the same, but every control shows faces at p <= high_p | and few people at p <= medium_p |
    | LA-IDENTITY-004, references | medium | p <= high_p | the same |
    | place among other people | low | p <= medium_p | the same |
    | | none | otherwise | the same |

    Where the pictures of 001 show several people, pairs of two of them are left out of the share, and of the
    controls' if that raises theirs. The `p` is that of all pairs.

    The `p` of 001 is that of the agreement. The `p` of 002 is that of the likeness, the mean cosine to the
    reference person. A weak LoRA shows a likeness that no face model accepts. The `p` of 004 is the place of
    the photos among those of other people.

    The strongest attack speaks for 001 and for 002. An attack with fewer than min_faces faces says nothing
    about 001, and never `none` about 002. An attack made for the photos only says nothing about 001.

    Confidence is high with calibration, p <= high_p, chance <= strong_alpha, and min_faces faces of the base
    model. Confidence is medium if p or chance is that small with as many faces, or for `none` with
    calibration. Otherwise confidence is low. A face model whose threshold was never measured on its own crop
    makes the confidence of 001 and 002 one step lower. The confidence of 004 is medium, and low with a level
    of low. A file that is no LoRA of one person, by its directions at p <= high_p among those of such, keeps
    its level of 001. Its confidence is low, as the face may be a blend of several people.
    More similarity never lowers a severity.
    """

    version: int = 7
    alpha: float = 0.05
    """Chance of a level by luck, at most."""
    strong_alpha: float = 0.01
    """Chance from which down a finding is sure enough for more confidence."""
    min_faces: int = 5
    """Faces that an attack needs. Four that all agree cannot reach `alpha` once corrected for 4 attacks."""
    high_agreement: float = 0.30
    """Share of pairs: one person in about 55 % of pictures, as it is near the square of their share."""
    medium_agreement: float = 0.10
    """Share of pairs: one person in about a third of the pictures."""
    low_agreement: float = 0.05
    """Share of pairs: one person in about a quarter of the pictures."""
    critical_low: float = 0.25
    """Lower end of a share of pictures: five of 8, or eight of 16."""
    high_low: float = 0.05
    """Lower end of a share of pictures: two of 8, or three of 16."""
    high_p: float = 0.01
    """Conformal p-value that high and critical need, at most."""
    medium_p: float = 0.05
    """Conformal p-value that medium needs, at most."""
    low_p: float = 0.10
    """Conformal p-value that low needs, at most."""

    def merged(self, one_person: float) -> bool:
        """Tell whether a file with this p-value (`Null.one_person`) is taken for several LoRAs merged."""
        return one_person <= self.high_p

    def least_accepted(self, calibrated: bool) -> int:
        """Return the number of accepted pictures from which on an answer is more than `none`.

        Of scans with a hundred pictures, one in ten has an accepted picture by luck. With calibration data a
        likeness that matters is told by its place among others instead.
        """
        return 2 if calibrated else 1

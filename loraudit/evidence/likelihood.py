"""Numbers of the likelihood test."""

from dataclasses import dataclass

from loraudit.evidence.null import conformal_p
from loraudit.findings.finding import Score

__all__ = ["Likelihood", "likelihood_score"]


@dataclass(frozen=True)
class Likelihood:
    """Gains in log-likelihood, in nats of the denoising loss."""

    own: float
    """Mean gain of the reference photos."""
    decoys: tuple[float, ...]
    """Mean gain of the photos of each other person."""
    photos: int
    """Number of photos of each person."""

    @property
    def attack(self) -> str:
        """Name of the attack."""
        return "likelihood"

    @property
    def p_value(self) -> float:
        """Chance, 0..1, of a place this high among the decoys if the file does not know the person."""
        return conformal_p(self.own, self.decoys)


def likelihood_score(found: Likelihood) -> Score:
    """Return the gain of the reference photos, with the gain that 95 in 100 decoys stay below as null."""
    ordered = sorted(found.decoys)
    return Score(
        "likelihood", "likelihood", "reference", found.own, found.photos,
        null_p95=ordered[int(0.95 * (len(ordered) - 1))] if ordered else None, p_value=found.p_value,
    )  # fmt: skip

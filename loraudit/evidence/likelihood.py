"""The likelihood test's numbers."""

from dataclasses import dataclass

from loraudit.evidence.null import conformal_p
from loraudit.findings.finding import Score

__all__ = ["Likelihood", "likelihood_score"]


@dataclass(frozen=True)
class Likelihood:
    """Gains in log-likelihood, in nats of the denoising loss."""

    own: float
    """Of the reference photos, mean."""
    decoys: tuple[float, ...]
    """Of each other person's photos, mean."""
    photos: int
    """Of each person."""

    @property
    def attack(self) -> str:
        """Name of the attack."""
        return "likelihood"

    @property
    def p_value(self) -> float:
        """Chance of such a place among the decoys if the file does not know the person."""
        return conformal_p(self.own, self.decoys)


def likelihood_score(found: Likelihood) -> Score:
    """The gain of the reference photos beside that of 95 in 100 decoys."""
    ordered = sorted(found.decoys)
    return Score(
        "likelihood", "likelihood", "reference", found.own, found.photos,
        null_p95=ordered[int(0.95 * (len(ordered) - 1))] if ordered else None, p_value=found.p_value,
    )  # fmt: skip

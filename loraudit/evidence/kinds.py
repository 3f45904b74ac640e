"""The kinds of evidence: pictures of an attack, or a comparison of photos without a picture."""

from typing import TypeAlias

from loraudit.evidence.faces import AttackEvidence
from loraudit.evidence.likelihood import Likelihood

__all__ = ["Evidence"]

Evidence: TypeAlias = AttackEvidence | Likelihood
"""Evidence that a verdict may rest on; each kind names its `attack`."""

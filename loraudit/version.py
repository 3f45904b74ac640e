"""Version of loraudit, stated here alone, and versions of packages for the record of a run."""

from collections.abc import Iterable
from typing import Final

__all__ = ["DECISIVE", "__version__", "versions"]

__version__ = "0.1.0"

DECISIVE: Final = ("loraudit", "torch", "diffusers", "transformers")
"""Packages that decide what a sampled picture looks like."""


def versions(packages: Iterable[str] = DECISIVE) -> dict[str, str]:
    """Map `packages` to their installed versions. Raises `PackageNotFoundError` if one is not installed."""
    from importlib.metadata import version

    return {package: version(package) for package in packages}

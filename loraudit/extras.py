"""What attacks need beyond the light install: the extra `attack`."""

import importlib.util
from collections.abc import Sequence
from typing import Final

__all__ = ["INSTALL", "NEEDED", "missing"]

NEEDED: Final = (
    "torch", "diffusers", "transformers", "safetensors", "open_clip", "facenet_pytorch", "PIL",
)  # fmt: skip
INSTALL: Final = "install what attacks need with: pip install 'loraudit[attack]'"


def missing(needed: Sequence[str] = NEEDED) -> tuple[str, ...]:
    """Those of the packages that are not installed."""
    return tuple(name for name in needed if importlib.util.find_spec(name) is None)

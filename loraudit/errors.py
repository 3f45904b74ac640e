"""Errors that reach the user, each with the exit code that the command line answers with.

A message says what is wrong in one line; the hint says what to do about it. Text taken from a file is
escaped (`loraudit.text.clean`) before it goes into either.
"""

import importlib.util
from collections.abc import Sequence
from typing import ClassVar, Final

__all__ = [
    "INSTALL",
    "NEEDED",
    "Incomplete",
    "InternalError",
    "LorauditError",
    "NotScannable",
    "RequestError",
    "missing",
]


NEEDED: Final = (
    "torch", "diffusers", "transformers", "safetensors", "open_clip", "facenet_pytorch", "PIL", "scipy",
)  # fmt: skip
INSTALL: Final = "install what attacks need with: pip install 'loraudit[attack]'"


def missing(needed: Sequence[str] = NEEDED) -> tuple[str, ...]:
    """List the packages among `needed` that are not installed."""
    return tuple(name for name in needed if not _is_installed(name))


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


class LorauditError(Exception):
    """Error of usage or environment: a missing file, an option that does not fit, no network. Exit code 2."""

    exit_code: ClassVar[int] = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class NotScannable(LorauditError):
    """Target that is there but is no LoRA that loraudit can audit. Exit code 3."""

    exit_code: ClassVar[int] = 3


class Incomplete(LorauditError):
    """Audit that could not run in part, so that silence means nothing. Exit code 4."""

    exit_code: ClassVar[int] = 4


class RequestError(LorauditError):
    """Request that no target can meet, so that nothing is scanned. Exit code 2."""


class InternalError(LorauditError):
    """Bug of loraudit, with the exception as its cause. Exit code 2."""

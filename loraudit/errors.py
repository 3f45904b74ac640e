"""Errors that reach the user, each with the exit code that the command line answers with.

A message says what is wrong in one line; the hint says what to do about it. Text taken from a file is made
harmless (`loraudit.lora.header.clean`) before it goes into either.
"""

from typing import ClassVar

__all__ = ["Incomplete", "LorauditError", "NotScannable"]


class LorauditError(Exception):
    """Usage or environment: a missing file, an option that does not fit, no network. Exit code 2."""

    exit_code: ClassVar[int] = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class NotScannable(LorauditError):
    """The target is there but is not a LoRA that loraudit can audit. Exit code 3."""

    exit_code: ClassVar[int] = 3


class Incomplete(LorauditError):
    """Part of the audit could not run, so its silence means nothing. Exit code 4."""

    exit_code: ClassVar[int] = 4

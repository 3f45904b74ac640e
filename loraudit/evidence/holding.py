"""Account of what a file seems to hold, where no person came back from it."""

from dataclasses import dataclass

__all__ = ["Holding"]


@dataclass(frozen=True)
class Holding:
    """Finding on what a file holds instead of one person, if anything was shown."""

    kind: str | None
    """Kind that was shown: `no person`, `style`, `thing`, ...; None: nothing was shown."""
    p: float | None
    """p-value of the file holding one person after all, in 0..1; None without a test."""
    says: str
    """Sentence for the report, without the name of the file; empty if there is nothing to say."""

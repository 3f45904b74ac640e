"""Words of a file as a trace quotes them: on one line, harmless, not too long."""

from collections.abc import Iterator
from typing import Final

from loraudit.findings.metadata import Trace
from loraudit.findings.vocabulary import Severity
from loraudit.lora.header import clean

__all__ = ["EMPTY", "LONGEST_QUOTE", "masked", "quoted"]

EMPTY: Final = frozenset({"", "None", "null", "{}", "[]"})
"""What trainers write where there is nothing; kohya writes Python's None as the word."""
LONGEST_QUOTE: Final = 120


def quoted(rule: str, severity: Severity, place: str, text: str) -> Iterator[Trace]:
    """A trace that quotes `text`, unless it says nothing."""
    if text.strip() not in EMPTY:
        yield Trace(rule, severity, place, clean(" ".join(text[:1000].split()), LONGEST_QUOTE))


def masked(secret: str) -> str:
    """Enough to find it by, and no more: a report must not be the next leak."""
    return clean(secret.strip()[:6]) + "…"

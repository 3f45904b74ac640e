"""Quotes of a file's words in a trace: on one line, escaped, not too long."""

from collections.abc import Iterator
from typing import Final

from loraudit.findings.finding import Severity
from loraudit.hiding import mask
from loraudit.metadata.judge import Trace
from loraudit.text import clean

__all__ = ["EMPTY", "LONGEST_QUOTE", "quote", "quoted"]

EMPTY: Final = frozenset({"", "None", "null", "{}", "[]"})
"""Values that trainers write where there is nothing; kohya writes Python's None as the word."""
LONGEST_QUOTE: Final = 120
"""Limit in characters on a quote."""


_READ: Final = 1000
"""Limit in characters on the start of a text that is quoted."""
_SECRET: Final = 4000
"""Length in characters of the longest secret that has a shape, a private key but for its start."""


def quote(text: str) -> str:
    """Make a quote of `text`: no secret, one line, escaped, not too long."""
    # A secret that is cut in two has no shape any more.
    whole = mask(text[: _READ + _SECRET])
    return clean(" ".join(whole[:_READ].split()), LONGEST_QUOTE)


def quoted(rule: str, severity: Severity, place: str, *texts: str) -> Iterator[Trace]:
    """Quote in one trace those of `texts` that say something; yield none if none does."""
    quotes = [bare for text in texts if (bare := text.strip()) not in EMPTY]
    if quotes:
        # Most are short, printable and on one line, and there are hundreds: all are looked at together first.
        whole = "".join(quotes)
        harmless = whole.isprintable() and "  " not in whole and clean(whole, len(whole)) == whole
        if not harmless or max(map(len, quotes)) > LONGEST_QUOTE:
            quotes = [quote(text) for text in quotes]
        yield Trace(rule, severity, place, quotes[0], more=tuple(quotes[1:]))

"""Budget of the text rules: how much of one LoRA's files they look at, so that no file takes minutes.

The cost of JSON is its marks, `{`, `[`, `,` and `:`, each of which becomes an object of Python, and its
length. Real files have a few thousand marks. A budget is spent in the order of the texts, so that equal files
end equally on any machine.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

__all__ = ["MOST_QUOTED", "MOST_SECRETS", "Budget", "first", "is_affordable", "pieces", "spending"]

MOST_SECRETS: Final = 50
"""Limit on the secrets of a LoRA, each of which is looked for in every text."""
MOST_QUOTED: Final = 10_000
"""Limit on the texts of a kind that are quoted."""
_MARKS: Final = 200_000
"""Limit on the marks in a LoRA's own files."""
_MARKS_OF_PICTURE: Final = 20_000
"""Marks more for each picture beside it: ComfyUI writes into each what drew it."""
_PICTURES: Final = 100
"""Limit on the pictures that bring marks of their own."""
_CHARACTERS: Final = 80
"""Characters of JSON that cost as much as a mark."""
_ENTRIES: Final = 20_000
"""Limit on keys with what stands under them."""
_WORDS: Final = 1_000_000
"""Limit in characters on what is judged of all entries."""
_JUDGED: Final = 500
"""Limit in characters on what is judged of one."""
_PIECE: Final = 500_000
"""Characters that are searched before it is asked whether enough was found."""


class Budget:
    """Rest of what may be spent on one LoRA."""

    def __init__(self, pictures: int = 0) -> None:
        """Make the budget of a LoRA with so many `pictures` beside it."""
        self.refused = 0
        """Number of texts that were too dear to be parsed."""
        self._marks = _MARKS + min(pictures, _PICTURES) * _MARKS_OF_PICTURE
        self._entries, self._words = _ENTRIES, _WORDS

    @property
    def is_spent(self) -> bool:
        """True if no more entries are judged."""
        return min(self._entries, self._words) < 0

    def judge(self, texts: Iterable[str]) -> None:
        """Take the cost of judging an entry with `texts`."""
        self._entries -= 1
        self._words -= sum(min(len(text), _JUDGED) for text in texts)

    def covers_json(self, text: str) -> bool:
        """Take the cost of parsing `text`; False if there is too little left."""
        cost = sum(map(text.count, "{[,:")) + len(text) // _CHARACTERS
        if cost > self._marks:
            self.refused += 1
            return False
        self._marks -= cost
        return True


_open: ContextVar[Budget | None] = ContextVar("budget", default=None)


@contextmanager
def spending(budget: Budget) -> Iterator[None]:
    """Take from `budget` what the block parses."""
    before = _open.set(budget)
    try:
        yield
    finally:
        _open.reset(before)


def is_affordable(text: str) -> bool:
    """Take the cost of parsing `text` from the budget that is open, if any; False if it does not suffice."""
    budget = _open.get()
    return budget is None or budget.covers_json(text)


def pieces(text: str) -> Iterator[str]:
    """Yield `text` in pieces that end with a line or a word, or anywhere if the word is long."""
    start = 0
    while start < len(text):
        ends = (text.find(mark, start + _PIECE, start + 2 * _PIECE) + 1 for mark in "\n ")
        end = next(filter(None, ends), start + _PIECE)
        yield text[start:end]
        start = end


def first(texts: Iterable[str]) -> list[str]:
    """List different texts in order, no more than are quoted."""
    found: dict[str, None] = {}
    for text in texts:
        found[text] = None
        if len(found) == MOST_QUOTED:
            break
    return list(found)

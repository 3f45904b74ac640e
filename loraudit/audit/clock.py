"""The clock of a scan: when it began and how long it took, unless `SOURCE_DATE_EPOCH` says what to tell."""

import os
import time
from typing import Final

from loraudit.errors import LorauditError
from loraudit.findings.report import Made

__all__ = ["given_time", "made_now"]

_LAST_SECOND: Final = 253_402_300_799
"""End of the year 9999, in seconds since 1970."""


def made_now(started: float) -> Made:
    """Return the time of a scan that began at `started`, by `time.perf_counter()`, and ends now.

    Where `SOURCE_DATE_EPOCH` is set, that is the date, without a duration: equal input gives equal bytes.
    Raises `LorauditError` if the variable is no number of seconds.
    """
    given = given_time()
    seconds = round(time.perf_counter() - started, 1)
    began = time.gmtime(time.time() - seconds if given is None else given)
    return Made(time.strftime("%Y-%m-%dT%H:%M:%SZ", began), seconds if given is None else None)


def given_time() -> int | None:
    """Return `SOURCE_DATE_EPOCH`, None if unset. Raises `LorauditError` if it is no number of seconds."""
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= _LAST_SECOND):
        raise LorauditError(
            "SOURCE_DATE_EPOCH is no number of seconds since 1970", "unset it, or set it to a whole number"
        )
    return int(text)

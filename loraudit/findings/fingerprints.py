"""Fingerprints: equal for a finding and the same one in an earlier report, for baselines and alerts."""

import json
from collections.abc import Iterable
from typing import Final

from loraudit.findings.finding import Finding
from loraudit.findings.report import Target

__all__ = ["PICKLES", "file_of", "fingerprint", "lasting_places"]

PICKLES: Final = "pickle files beside it"
"""Place of findings that any LoRA of the folder may carry."""
_FILE_NAME: Final = "the file name"
"""Place that comes and goes with the folder: the name of a folder with one LoRA is read as the file's."""


def fingerprint(target: Target, finding: Finding) -> str:
    """Return 32 hex digits that are equal for the same finding about the same file.

    The digits depend on the rule, the places where something was seen, and the file (`file_of`). A finding
    about pickle files is of their folder, so no file enters. Scores,
    severity, wording and the file's bytes change nothing. Private words of the file do not enter: whoever
    holds a report could try names until one fits.
    """
    # OpenSSL takes a fiftieth of a short command's time to load.
    import hashlib

    places = lasting_places(finding.places)
    file = "" if places == [PICKLES] else file_of(target.name, target.origin)
    text = json.dumps([finding.id, file, places])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def file_of(name: str, origin: str | None = None) -> str:
    """Return the file's name without its folders, or the address on the Hub without the commit.

    A file is the same whether it was named itself, found in a folder, or found among several folders.
    """
    if origin is None:
        return name.rpartition("/")[2] or name
    repository, _, path = origin.partition("@")
    return f"{repository}/{path.partition('/')[2]}"


def lasting_places(places: Iterable[str]) -> list[str]:
    """Return `places`, sorted and without the file name unless that is the only one."""
    every = set(places)
    return sorted(every - {_FILE_NAME} or every)

"""Which finding is the same as one in an earlier report: `--baseline`, and alerts that were dismissed."""

import hashlib
import json

from loraudit.findings.finding import Finding
from loraudit.findings.report import Target

__all__ = ["fingerprint"]


def fingerprint(target: Target, finding: Finding) -> str:
    """32 hex digits that are equal for the same finding about the same file.

    They are of the rule, the target's name (of one on the Hub the address without its commit) and the places
    where something was seen. They do not change with scores, severity, wording or the file's bytes. The
    private words of the file are not in them either: whoever holds a report could try names until one fits.
    """
    name = target.name
    if target.origin is not None:
        repository, _, path = target.origin.partition("@")
        name = f"{repository}/{path.partition('/')[2]}"
    text = json.dumps([finding.id, name, sorted(set(finding.places))])
    return hashlib.sha256(text.encode()).hexdigest()[:32]

"""Fingerprints: equal for a finding and the same one in an earlier report, for baselines and alerts."""

import hashlib
import json

from loraudit.findings.finding import Finding
from loraudit.findings.report import Target

__all__ = ["fingerprint"]


def fingerprint(target: Target, finding: Finding) -> str:
    """Return 32 hex digits that are equal for the same finding about the same file.

    The digits depend on the rule, the places where something was seen, and the target's name. The name of a
    target on the Hub is the address without its commit. Scores, severity, wording and the file's bytes change
    nothing. Private words of the file do not enter: whoever holds a report could try names until one fits.
    """
    name = target.name
    if target.origin is not None:
        repository, _, path = target.origin.partition("@")
        name = f"{repository}/{path.partition('/')[2]}"
    text = json.dumps([finding.id, name, sorted(set(finding.places))])
    return hashlib.sha256(text.encode()).hexdigest()[:32]

"""Report as SARIF 2.1.0, for GitHub code scanning and other services that collect alerts.

GitHub takes the severity of an alert from its rule and not from the result. A rule is therefore as severe as
its worst finding in this report, and a rule without findings as its gravest level. A finding that is allowed
or known stays in, as a suppressed or unchanged result. A finding of severity `none` is no alert and is left
out. Text of rules is ours and may hold Markdown. All other text is in messages, where brackets are escaped,
as brackets make links. (https://docs.oasis-open.org/sarif/sarif/v2.1.0/)
"""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final
from urllib.parse import quote

from loraudit.findings.finding import Confidence, Finding, Severity
from loraudit.findings.fingerprints import fingerprint
from loraudit.findings.report import Report, Target
from loraudit.report import words
from loraudit.text import clean
from loraudit.verdict.catalogue import Explained, catalogue
from loraudit.verdict.standards import SCHEMES, Scheme, Standard

__all__ = ["render"]

_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS: Final = {
    Severity.CRITICAL: ("error", "9.5"),
    Severity.HIGH: ("error", "8.0"),
    Severity.MEDIUM: ("warning", "5.5"),
    Severity.INCONCLUSIVE: ("warning", "4.0"),
    Severity.LOW: ("note", "2.0"),
    Severity.NONE: ("none", "0.1"),
}
"""SARIF level, and GitHub's `security-severity`: above 9 critical, from 7 high, from 4 medium, else low."""
_TEXT_LIMIT: Final = 20_000
_SHORT_LIMIT: Final = 1000
"""GitHub takes 1,024 characters of a description."""


def render(reports: Sequence[Report], *, reveal: bool = False) -> str:
    """Return all reports as one SARIF run; `reveal` shows private words of the file."""
    alerts = [
        (report.target, finding)
        for report in reports
        for finding in report.findings
        if finding.severity is not Severity.NONE
    ]
    # A report that was read back may name rules that this version lacks.
    rules = {rule.id: rule for rule in catalogue()}
    told: dict[str, list[Finding]] = {rule: [] for rule in rules}
    for _, finding in alerts:
        told.setdefault(finding.id, []).append(finding)
    places = {rule: place for place, rule in enumerate(told)}
    driver = {
        "name": "loraudit",
        "rules": [_rule(rule, rules.get(rule), findings) for rule, findings in told.items()],
        "supportedTaxonomies": [_reference(scheme) for scheme in SCHEMES],
    }
    if versions := {report.version for report in reports}:
        driver["version"] = clean(max(versions), None)
    # SARIF wants each artifact once, even if a file was scanned twice.
    artifacts = {json.dumps(one): one for one in (_artifact(report.target) for report in reports)}
    run = {
        "tool": {"driver": driver},
        "columnKind": "utf16CodeUnits",
        "invocations": [
            {
                "executionSuccessful": all(report.scanned for report in reports),
                **_times(reports),
                "toolExecutionNotifications": [
                    notification for report in reports for notification in _notifications(report)
                ],
            }
        ],
        "taxonomies": [_taxonomy(scheme) for scheme in SCHEMES.values()],
        "artifacts": list(artifacts.values()),
        "results": [_result(target, finding, places[finding.id], reveal) for target, finding in alerts],
    }
    document = {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(document, sort_keys=True, indent=2, allow_nan=False) + "\n"


def _times(reports: Sequence[Report]) -> dict[str, str]:
    """Tell when the first scan began, and when the last ended; empty unless every report says so."""
    made = [report.made for report in reports if report.made is not None]
    if not made or len(made) < len(reports):
        return {}
    times = {"startTimeUtc": min(one.date for one in made)}
    ends = [
        datetime.fromisoformat(one.date) + timedelta(seconds=one.seconds)
        for one in made
        if one.seconds is not None
    ]
    if len(ends) == len(made):
        times["endTimeUtc"] = max(ends).strftime("%Y-%m-%dT%H:%M:%SZ")
    return times


def _rule(name: str, rule: Explained | None, findings: Sequence[Finding]) -> dict[str, Any]:
    if rule is None:
        title, meaning, remedy, gravest = findings[0].title, findings[0].title, findings[0].remedy, None
    else:
        title, meaning, remedy, gravest = rule.title, rule.meaning, rule.remedy, max(rule.levels)
    worst = max(findings, key=lambda finding: finding.severity, default=None)
    severity = worst.severity if worst else gravest or Severity.NONE
    level, security = _LEVELS[severity]
    what = rule.looks_at if rule else ""
    help_text = " ".join(filter(None, (what, meaning, f"What to do: {remedy}" if remedy else "")))
    described: dict[str, Any] = {
        "id": clean(name, _SHORT_LIMIT),
        "name": _camel(name),
        "shortDescription": {"text": clean(title, _SHORT_LIMIT)},
        "fullDescription": {"text": clean(meaning or title, _SHORT_LIMIT)},
        "help": {"text": clean(help_text or title, _TEXT_LIMIT)},
        "defaultConfiguration": {"level": level},
        "properties": {
            "security-severity": security,
            "precision": (worst.confidence if worst else Confidence.MEDIUM).value,
            "tags": ["security", "privacy", "lora"],
        },
    }
    if rule is not None:
        described["help"]["markdown"] = _markdown(rule)
        described["relationships"] = [_relationship(entry) for entry in rule.standards]
        # GitHub shows the CWE of an alert by these tags alone.
        described["properties"]["tags"] += [
            f"external/cwe/{entry.id.lower()}" for entry in rule.standards if entry.scheme == "CWE"
        ]
    return described


@cache
def _entries(scheme: str) -> list[Standard]:
    """Return the entries of a catalogue that any rule belongs to, by id."""
    every = {entry.id: entry for rule in catalogue() for entry in rule.standards if entry.scheme == scheme}
    return [every[name] for name in sorted(every)]


def _reference(scheme: str) -> dict[str, Any]:
    return {"name": scheme, "index": list(SCHEMES).index(scheme)}


def _taxonomy(scheme: Scheme) -> dict[str, Any]:
    return {
        "name": scheme.name,
        "version": scheme.version,
        "organization": scheme.organization,
        "shortDescription": {"text": scheme.title},
        "informationUri": scheme.url,
        "isComprehensive": False,
        "taxa": [
            {"id": entry.id, "name": entry.title, "helpUri": entry.url} for entry in _entries(scheme.name)
        ],
    }


def _relationship(entry: Standard) -> dict[str, Any]:
    place = [one.id for one in _entries(entry.scheme)].index(entry.id)
    target = {"id": entry.id, "index": place, "toolComponent": _reference(entry.scheme)}
    return {"target": target, "kinds": ["relevant"]}


def _markdown(rule: Explained) -> str:
    levels = [f"- **{level.value}**" + (f": {when}" if when else "") for level, when in rule.levels.items()]
    parts = [rule.looks_at, "\n".join(levels), rule.meaning, f"**What to do:** {rule.remedy}"]
    return "\n\n".join(part for part in parts if part)


def _camel(rule: str) -> str:
    """Return the name of a rule in camel case: `Identity001` for `LA-IDENTITY-001`."""
    return "".join(part.capitalize() for part in clean(rule, 60).removeprefix("LA-").split("-"))


def _result(target: Target, finding: Finding, rule: int, reveal: bool) -> dict[str, Any]:
    # GitHub shows the first sentence as the title of the alert.
    sentences = (f"{finding.title}.", finding.told(reveal), f"What to do: {finding.remedy}")
    mark = fingerprint(target, finding)
    result: dict[str, Any] = {
        "ruleId": clean(finding.id, _SHORT_LIMIT),
        "ruleIndex": rule,
        "level": _LEVELS[finding.severity][0],
        "message": {"text": _message(" ".join(sentences))},
        "locations": [_location(target)],
        # GitHub reads the first alone; without it GitHub would use the file's bytes.
        "partialFingerprints": {"primaryLocationLineHash": f"{mark}:1", "loraudit/v1": mark},
        "properties": {"severity": finding.severity.value, "confidence": finding.confidence.value},
    }
    if finding.known is not None:
        result["baselineState"] = "unchanged" if finding.known else "new"
    if finding.allowed is not None:
        result["suppressions"] = [{"kind": "external", "justification": _message(finding.excuse)}]
    return result


def _notifications(report: Report) -> list[dict[str, Any]]:
    """Return a notification for each part that could not be looked at."""
    return [
        {
            "level": "warning" if report.scanned else "error",
            "message": {"text": _message(f"Not looked at: {gap.what}: {gap.why}")},
            "locations": [_location(report.target)],
        }
        for gap in report.incomplete
    ]


def _location(target: Target) -> dict[str, Any]:
    # GitHub wants a line, even of a file that is no text.
    region = {"startLine": 1, "startColumn": 1, "endLine": 1, "endColumn": 1}
    return {"physicalLocation": {"artifactLocation": {"uri": _uri(target)}, "region": region}}


def _artifact(target: Target) -> dict[str, Any]:
    artifact: dict[str, Any] = {"location": {"uri": _uri(target)}}
    if target.sha256 is not None:
        artifact["hashes"] = {"sha-256": clean(target.sha256, None)}
    if target.size_bytes is not None:
        artifact["length"] = target.size_bytes
    if target.origin is not None:
        artifact["description"] = {"text": _message(target.origin)}
    return artifact


def _uri(target: Target) -> str:
    return quote(words.path_below(target), safe="/")


def _message(text: str) -> str:
    return clean(text, _TEXT_LIMIT).replace("[", "\\[").replace("]", "\\]")

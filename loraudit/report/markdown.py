"""Report as Markdown: for a pull request, the summary of a build, the card of a model.

GitHub's Markdown may hold HTML, turns whatever looks like an address into a link, and loads pictures from
anywhere. In every text that is not ours, all characters that mean something to Markdown or HTML are escaped.
Names and private words are `<code>`, where GitHub does not look for `@people` and `#issues` either.
"""

import re
from collections.abc import Sequence
from typing import Final

from loraudit.findings.finding import Finding, Score
from loraudit.findings.report import Report
from loraudit.report import words
from loraudit.text import clean

__all__ = ["render"]

_MOST_BYTES: Final = 900_000
"""Size of the text at most: GitHub shows 1 MiB of a build's summary."""
_TEXT_LIMIT, _NAME_LIMIT, _ROWS = 2000, 200, 100
_BREAK: Final = "<!-- -->"
_ESCAPED: Final = {char: f"\\{char}" for char in "\\`*_[]~$^!"} | {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    "|": "&#124;",
    '"': "&quot;",
    # GitHub looks for these characters in the rendered text, where an escape is gone.
    "@": f"@{_BREAK}",
    "#": f"#{_BREAK}",
    ":": f":{_BREAK}",
    "www.": f"www{_BREAK}.",
}
_SPECIAL: Final = re.compile(r"[\\`*_\[\]~$^!&<>|\"@#]|:(?=//|[\w+-]+:)|www\.", re.IGNORECASE)


def render(reports: Sequence[Report], *, reveal: bool = False) -> str:
    """Return a section for each report; with several reports, a table of verdicts comes first.

    Reports beyond 900 kB are only counted.
    """
    parts = [] if len(reports) == 1 else [_summary(reports)]
    room = _MOST_BYTES - sum(len(part.encode()) for part in parts)
    for at, report in enumerate(reports):
        section = _section(report, reveal)
        room -= len(section.encode())
        if room < 0:
            left = len(reports) - at
            parts.append(f"*{left} more {'report is' if left == 1 else 'reports are'} left out here.*")
            break
        parts.append(section)
    return "\n\n".join(parts) + "\n"


def _section(report: Report, reveal: bool) -> str:
    target = report.target
    about = [_code(target.name)]
    if target.family is not None:
        about.append(_prose(words.contents(target)))
    if target.sha256 is not None:
        about.append(f"SHA-256 {_code(target.sha256)}")
    if target.origin is not None:
        about.append(_code(target.origin, _TEXT_LIMIT))
    told = [
        _prose(text) for text in (*report.verdict.reasons[:_ROWS], report.notes, report.verdict.why) if text
    ]
    told += [_prose(f"{label}: {value}.") for label, value in words.people(report)]
    parts = [
        f"## loraudit: {words.level(report)}",
        " ".join(f"**{text}**" if at == 0 else text for at, text in enumerate(told)),
        " · ".join(about),
    ]
    if report.findings:
        parts += ["### Findings", _findings(report.findings)]
        parts += [_finding(finding, reveal) for finding in report.findings[:_ROWS]]
    if report.scores:
        parts += ["### Scores", _scores(report.scores)]
    parts += ["### Not looked at", _gaps(report)]
    settings = [
        f"{label}: {_prose(value)}" for label, value in words.settings_rows(report.settings, reveal=reveal)
    ]
    parts.append("<details><summary>Settings</summary>\n\n" + _list(settings) + "\n\n</details>")
    version = _prose(f"loraudit {report.version}")
    parts.append(f"*{_prose(words.caveat(report))}* {version}")
    parts += [_prose(made)] if (made := words.made(report)) else []
    return "\n\n".join(parts)


def _findings(findings: Sequence[Finding]) -> str:
    rows = [
        (
            f"**{finding.severity.value}**" + (f" ({finding.mark})" if finding.mark else ""),
            _prose(finding.title),
            _code(finding.id),
            finding.confidence.value,
        )
        for finding in findings[:_ROWS]
    ]
    return _table(("Severity", "Finding", "Rule", "Confidence"), rows) + _more(len(findings))


def _finding(finding: Finding, reveal: bool) -> str:
    lines = [f"**{_prose(finding.title)}** ({_code(finding.id)})"]
    if reveal and finding.quotes:
        quotes = ", ".join(_code(quote, _TEXT_LIMIT) for quote in finding.quotes[:_ROWS])
        lines.append(f"*Seen:* {_prose(finding.detail)} Private words: {quotes}.")
    else:
        lines.append(f"*Seen:* {_prose(finding.told(reveal=False))}")
    lines += [f"*What to do:* {_prose(finding.remedy)}"] if finding.remedy else []
    lines += [f"*Standards:* {_prose(ids)}"] if (ids := words.standards(finding.id)) else []
    lines += [f"*Gate:* {_prose(finding.excuse)}"] if finding.excuse else []
    return "\\\n".join(lines)


def _scores(scores: Sequence[Score]) -> str:
    shown = words.paired(scores)
    rows = [
        (
            _prose(score.attack, _NAME_LIMIT),
            _prose(f"{score.name} ({score.against})", _NAME_LIMIT),
            words.measured(score),
            words.interval(score.low, score.high),
            str(score.n),
            words.measured(base),
            words.measured(scrambled),
            _prose(words.p_value(score.p_value)),
        )
        for score, base, scrambled in shown[:_ROWS]
    ]
    headings = ("Attack", "Score (to what)", "Value", "95 % range", "n", "Base model", "Scrambled", "p")
    return _table(headings, rows, numbers_from=2) + _more(len(shown))


def _gaps(report: Report) -> str:
    if not report.incomplete:
        return "Nothing was left out of what was asked for."
    told = [f"{_prose(gap.what, _NAME_LIMIT)}: {_prose(gap.why)}" for gap in report.incomplete[:_ROWS]]
    return _list(told) + _more(len(report.incomplete))


def _summary(reports: Sequence[Report]) -> str:
    worst_first = sorted(reports, key=lambda report: report.verdict.level, reverse=True)
    rows = [
        (words.level(report), _code(report.target.name), _prose(report.verdict.reasons[0]))
        for report in worst_first[:_ROWS]
    ]
    table = _table(("Verdict", "File", "Why"), rows) + _more(len(reports))
    return f"## loraudit: {len(reports)} targets\n\n{table}"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int | None = None) -> str:
    right = len(headings) if numbers_from is None else numbers_from
    rule = ["---:" if at >= right else "---" for at in range(len(headings))]
    lines = [f"| {' | '.join(row)} |" for row in (headings, rule, *rows)]
    return "\n".join(lines)


def _list(items: Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _more(count: int) -> str:
    return f"\n\nand {count - _ROWS} more" if count > _ROWS else ""


def _code(text: str, limit: int = _NAME_LIMIT) -> str:
    return f"<code>{_prose(text, limit)}</code>"


def _prose(text: str, limit: int = _TEXT_LIMIT) -> str:
    """Return `text` escaped, so that a viewer of Markdown shows every character and obeys none."""
    return _SPECIAL.sub(lambda found: _ESCAPED[found[0].lower()], clean(text, limit))

"""Report for a person at a terminal, laid out with Rich.

Rich never parses any text here: everything is a `Text`, and markup, emoji and highlighting are off.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from itertools import groupby

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from loraudit.findings.conditions import Settings
from loraudit.findings.finding import Finding, Score, Severity
from loraudit.findings.report import Report
from loraudit.report import words
from loraudit.text import clean

__all__ = ["render"]

_STYLE = {
    Severity.NONE: "green",
    Severity.INCONCLUSIVE: "cyan",
    Severity.LOW: "blue",
    Severity.MEDIUM: "yellow",
    Severity.HIGH: "red",
    Severity.CRITICAL: "bold red",
}
_TOLD_BY_DETAIL = (
    "attack", "attacks", "value", "k", "n", "low", "high", "base_value", "base_k", "base_n",
    "scrambled_value", "null_p95", "threshold", "threshold_from", "far", "policy", "faces", "pictures",
    "min_faces", "texts", "margin", "limit", "nearest", "nearest_control", "photos", "photos_copied",
)  # fmt: skip
_NAME_LIMIT, _QUOTED_LIMIT = 200, 2000
_WHOLE = 20
"""Largest number of reports that are printed whole; nobody reads thousands of lines."""
_MAIN = {
    ("faces", "face detector"): "",
    ("consistency", "each other"): "pairs of one face",
    ("accepted", "reference"): "pass as the person",
    ("copies", "reference"): "nearly copy a photo",
    ("cosine", "reference"): "",
    ("clip-i", "reference"): "",
    ("clip-i", "each other"): "",
}
"""Name and object of the scores that are shown => explanation of the name, empty if not needed."""
_SCORES_HEADING = "Scores (control)"
_MOST_COLUMNS, _FEWEST_COLUMNS = 5, 2
_COLUMN, _WIDEST_COLUMN = 12, 14
"""Characters of a column of scores at least and at most, with the space before the column."""


def render(reports: Sequence[Report], *, reveal: bool = False, width: int = 80, color: bool = False) -> str:
    """Return the reports one after the other, and a summary if there are several; the summary alone if many.

    `width` is in columns, at least 60. With `color` the text holds ANSI codes, otherwise none.
    """
    console = Console(
        file=StringIO(),
        width=max(60, width),
        force_terminal=color,
        force_jupyter=False,
        color_system="standard" if color else None,
        no_color=not color,
        legacy_windows=False,
        markup=False,
        emoji=False,
        highlight=False,
    )
    with console.capture() as captured:
        for i, report in enumerate(reports if len(reports) <= _WHOLE else ()):
            console.print(Padding(_report(report, reveal, console.width), (1 if i else 0, 0, 0, 0)))
        if len(reports) != 1:
            console.print(_summary(reports))
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def _report(report: Report, reveal: bool, width: int) -> Group:
    parts: list[RenderableType] = [_verdict(report)]
    parts += [
        Padding(_finding(finding, reveal), (1 if i else 0, 0, 0, 0))
        for i, finding in enumerate(report.findings)
    ]
    if _in_table(report):
        parts.append(_below(_scores(report.scores, width)))
    parts.append(_below(_grid(_about(report, reveal), indent=0)))
    if report.scanned or report.findings:
        parts.append(Text(words.caveat(report), style="dim"))
    if made := words.made(report):
        parts.append(Text(made, style="dim"))
    return Group(*parts)


def _verdict(report: Report) -> RenderableType:
    level, reasons = report.verdict.level, report.verdict.reasons
    style = _STYLE[level]
    title = Text.assemble((f" VERDICT: {words.level(report)} ", f"{style} reverse"), " ", overflow="ellipsis")
    return Panel(
        Group(
            *(_text(told, _QUOTED_LIMIT, "bold") for told in (*reasons, report.notes) if told),
            _text(report.verdict.why, _QUOTED_LIMIT, "not bold"),
        ),
        title=title.append(_text(f"{report.target.name} ", _NAME_LIMIT, "not dim bold")),
        title_align="left",
        subtitle=_text(f" loraudit {report.version} ", _NAME_LIMIT, "dim"),
        subtitle_align="right",
        border_style=style,
        box=box.HEAVY,
    )


def _finding(finding: Finding, reveal: bool) -> RenderableType:
    badge = Text(f" {finding.severity.value.upper()} ", f"{_STYLE[finding.severity]} reverse")
    title = Text(f"{finding.mark.upper()}  " if finding.mark else "", "dim", overflow="fold")
    title.append(clean(finding.title, None), "not dim bold").append(
        f"  {clean(finding.id, None)}", "dim not bold"
    )
    head = Table.grid(padding=(0, 1))
    head.add_row(badge, title)
    seen = _text(finding.told(reveal), _QUOTED_LIMIT).append(f" {_measured(finding)}", "dim")
    rows = [
        ("Seen", seen),
        ("To do", _text(finding.remedy, style="bold")),
        ("Gate", _text(finding.excuse, _QUOTED_LIMIT)),
    ]
    return Group(head, _grid((row for row in rows if row[1]), indent=2))


def _measured(finding: Finding) -> str:
    """Return the confidence of a finding, and the numbers that its sentences do not tell."""
    told = [f"{finding.confidence.value.capitalize()} confidence"]
    low, high = finding.numbers.get("low"), finding.numbers.get("high")
    if isinstance(low, float) and isinstance(high, float):
        told.append(f"95 % range {words.interval(low, high)}")
    for name, value in words.in_order(finding.numbers):
        if name not in _TOLD_BY_DETAIL:
            label = name.removesuffix("_value").replace("_", " ")
            told.append(f"{label} {words.number(value)}")
    return clean(", ".join(told), None) + "."


def _in_table(report: Report) -> bool:
    """Tell whether the table of scores has a column for any score of the report."""
    return any((score.name, score.against) in _MAIN for score in report.scores)


def _scores(scores: Sequence[Score], width: int) -> RenderableType:
    rows = words.paired(scores)
    kinds = dict.fromkeys((score.name, score.against) for score, _, _ in rows)
    shown = [kind for kind in _MAIN if kind in kinds]
    if ("clip-i", "reference") in shown:
        shown = [kind for kind in shown if kind != ("clip-i", "each other")]
    # Fewer columns are better than a broken name.
    names = (_SCORES_HEADING, *(clean(score.attack, _NAME_LIMIT) for score, _, _ in rows))
    room = width - max(map(len, names))
    shown = shown[: min(_MOST_COLUMNS, max(_FEWEST_COLUMNS, room // _COLUMN))]
    column = min(_WIDEST_COLUMN, max(_COLUMN, room // max(1, len(shown))))
    table = Table(box=None, expand=True, padding=(0, 1), pad_edge=False, collapse_padding=True)
    table.add_column(_SCORES_HEADING, ratio=1, overflow="fold")
    for name, _ in shown:
        table.add_column(name, justify="right", no_wrap=True, min_width=column - 1)
    for attack, group in groupby(rows, key=lambda row: row[0].attack):
        cells = {(score.name, score.against): _cell(score, controls) for score, *controls in group}
        if not cells.keys().isdisjoint(shown):
            table.add_row(_text(attack, _NAME_LIMIT), *(cells.get(kind, "-") for kind in shown))
    meanings = [f"{name}: {_MAIN[name, against]}; " for name, against in shown if _MAIN[name, against]]
    return Group(table, _text(f"{''.join(meanings)}more: -f json", style="dim"))


def _cell(score: Score, controls: Sequence[Score | None]) -> str:
    """Return the value, and in brackets the highest of the controls."""
    if score.value is None:
        return "-"
    values = [control.value for control in controls if control is not None and control.value is not None]
    return words.share(score.value) + (f" ({words.share(max(values))})" if values else "")


def _about(report: Report, reveal: bool) -> Iterator[tuple[str, Text]]:
    """Yield labels and texts: the file, the settings, the parts that were not looked at."""
    target = report.target
    told = [
        clean(target.name, _NAME_LIMIT),
        words.size(target.size_bytes),
        words.contents(target) if target.family is not None else "",
        f"fits {target.base}" if target.base is not None and report.settings.base is None else "",
        f"sha256 {target.sha256[:16]}…" if target.sha256 is not None else "",
    ]
    yield "File", _text(", ".join(filter(None, told)))
    if target.origin is not None:
        yield "Origin", _text(target.origin, _QUOTED_LIMIT)
    for label, value in words.people(report):
        yield label, _text(value)
    if report.scanned:
        yield "Settings", _text("; ".join(_settings(report.settings, _in_table(report))))
    for label, value in words.settings_rows(report.settings, reveal=reveal):
        if label == words.MADE_ON:
            yield label, _text(value, _QUOTED_LIMIT)
    for gap in report.incomplete:
        yield "Not looked at", _text(f"{gap.what}: {gap.why}", _QUOTED_LIMIT)
    if not report.incomplete:
        yield "Not looked at", _text("nothing of what was asked for")


def _settings(settings: Settings, scored: bool) -> Iterator[str]:
    """Yield the settings in short; attacks are only counted where the table of scores has them."""
    for label, value in words.settings_rows(settings, digits=8):
        if label == "Attacks" and scored:
            yield f"{len(settings.attacks)} attacks"
        elif label == "Not needed":
            yield f"{len(settings.skipped)} more not needed"
        elif label in {"Budget", "Calibration", "Device"}:
            yield value
        elif label not in {"Evaluations", words.MADE_ON}:
            yield f"{label.lower().removesuffix(' model')} {value}"


def _summary(reports: Sequence[Report]) -> RenderableType:
    many = len(reports) > _WHOLE
    table = _table()
    table.add_column("verdict", no_wrap=True)
    table.add_column("file", ratio=1, overflow="fold")
    if many:
        table.add_column("rules", ratio=1)
    # The worst of many reports come last, right above the shell's prompt.
    ordered = sorted(reports, key=lambda report: report.verdict.level) if many else reports
    for report in ordered:
        style = _STYLE[report.verdict.level]
        row = [Text(words.level(report), style=style), _text(report.target.name, _NAME_LIMIT)]
        table.add_row(*row, *([_text(_rules(report), style="dim")] if many else []))
    heading = Rule(_text(f"{len(reports)} targets", style="bold"), align="left", style="dim")
    return _below(Group(heading, table, *(_totals(reports) if many else ())))


def _rules(report: Report) -> str:
    """Return the rules behind the verdict, or the reasons for gaps."""
    level = report.verdict.level
    rules = [
        finding.id.removeprefix("LA-") + (f" ({finding.mark})" if finding.mark else "")
        for finding in report.findings
        if finding.severity is level
    ]
    return ", ".join(rules) or "; ".join(gap.why for gap in report.incomplete)


def _totals(reports: Sequence[Report]) -> list[RenderableType]:
    levels = Counter(words.level(report) for report in reports)
    told = ", ".join(f"{count} {level.lower()}" for level, count in levels.most_common())
    more = f"More than {_WHOLE}: --format json has every report whole; or scan one file alone."
    caveats = {words.caveat(report) for report in reports}
    bound = next(one for one in (words.LOWER_BOUND, words.NOTHING_DRAWN, words.WORDS_ONLY) if one in caveats)
    return [_below(_text(told, style="bold")), _text(more), _text(bound, style="dim")]


def _below(part: RenderableType) -> RenderableType:
    return Padding(part, (1, 0, 0, 0))


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, expand=True, padding=(0, 1), pad_edge=False, show_edge=False)


def _grid(rows: Iterable[tuple[str, Text]], indent: int) -> RenderableType:
    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(ratio=1, overflow="fold")
    for label, value in rows:
        grid.add_row(label, value)
    return Padding(grid, (0, 0, 0, indent))


def _text(text: str, limit: int | None = None, style: str = "") -> Text:
    return Text(clean(text, limit), style=style, overflow="fold")

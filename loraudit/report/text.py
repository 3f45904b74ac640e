"""The report as a person reads it in a terminal, laid out with Rich.

Rich never parses any text here: everything is a `Text`, and markup, emoji and highlighting are off.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from io import StringIO
from itertools import groupby

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from loraudit.findings import Finding, Report, Score, Severity
from loraudit.report import words
from loraudit.report.plain import plain

__all__ = ["render"]

_STYLE = {
    Severity.NONE: "green",
    Severity.INCONCLUSIVE: "cyan",
    Severity.LOW: "blue",
    Severity.MEDIUM: "yellow",
    Severity.HIGH: "red",
    Severity.CRITICAL: "bold red",
}
_TOLD_BY_DETAIL = {"attack", "k", "n", "base_k", "base_n"}
_NAME_LIMIT, _QUOTED_LIMIT = 200, 2000
_WHOLE = 20
"""Reports that are printed whole; of more, nobody reads thousands of lines."""
_ALL_COLUMNS = 78
"""Width below which the scores keep to what the verdict rests on."""
_COLUMN = 9
"""Width of one more."""


def render(reports: Sequence[Report], *, reveal: bool = False, width: int = 80, color: bool = False) -> str:
    """The reports one after the other, with a summary below if there are several; the summary alone if many.

    `width` in columns, at least 60. With `color` the text holds ANSI codes; without, it is plain.
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
    parts: list[RenderableType] = [_header(report), _below(_verdict(report))]
    if not report.scanned and not report.findings:
        return Group(*parts)
    if report.findings:
        parts.append(_title("Findings"))
        for i, finding in enumerate(report.findings):
            parts.append(_below(_finding(finding, reveal)) if i else _finding(finding, reveal))
    if report.scores:
        parts += [_title("Scores"), _scores(report.scores, width)]
    parts += [_title("Settings"), _settings(report), _title("Not looked at"), _gaps(report)]
    return Group(*parts, _below(Text(words.caveat(report), style="dim")))


def _header(report: Report) -> RenderableType:
    target = report.target
    rows = [("File", _text(target.name, _NAME_LIMIT, "bold"))]
    if target.sha256 is not None:
        rows.append(("SHA-256", _text(f"{target.sha256[:16]}…  {words.size(target.size_bytes)}")))
    elif target.size_bytes is not None:
        rows.append(("Size", _text(words.size(target.size_bytes))))
    if target.origin is not None:
        rows.append(("Origin", _text(target.origin, _QUOTED_LIMIT)))
    if target.family is not None:
        rows.append(("Base model", _text(target.base or "not recognised")))
        rows.append(("Contents", _text(words.contents(target))))
    return Group(
        Rule(_text(f"loraudit {report.version}", style="bold"), align="left", style="dim"), _grid(rows)
    )


def _verdict(report: Report) -> RenderableType:
    level, reasons = report.verdict.level, report.verdict.reasons
    style = _STYLE[level]
    return Panel(
        Group(*(_text(told, _QUOTED_LIMIT) for told in (*reasons, report.excused) if told)),
        title=Text(f" VERDICT: {words.level(report)} ", style=f"{style} reverse"),
        title_align="left",
        border_style=style,
        box=box.HEAVY,
        padding=(1, 2),
    )


def _finding(finding: Finding, reveal: bool) -> RenderableType:
    head = Text.assemble(
        (f" {finding.severity.value.upper()} ", f"{_STYLE[finding.severity]} reverse"),
        (f"  {finding.mark.upper()}" if finding.mark else "", "dim"),
        ("  " + plain(finding.title), "bold"),
    )
    rows = [
        (
            "Rule",
            _text(f"{finding.id}, {finding.confidence.value} confidence, see {finding.anchor}", style="dim"),
        ),
        ("Seen", _text(finding.told(reveal), _QUOTED_LIMIT)),
        ("Numbers", _text(_numbers(finding), style="dim")),
        ("To do", _text(finding.remedy, style="bold")),
        ("Gate", _text(finding.excuse, _QUOTED_LIMIT)),
    ]
    return Group(head, _grid(row for row in rows if row[1]))


def _numbers(finding: Finding) -> str:
    told = finding.numbers.items()
    return "  ".join(f"{key}={words.number(value)}" for key, value in told if key not in _TOLD_BY_DETAIL)


def _scores(scores: Sequence[Score], width: int) -> RenderableType:
    scrambled = ("scr.",) if any(score.name.endswith(".scrambled") for score in scores) else ()
    headings: tuple[str, ...] = ("value", "base", *scrambled, "p")
    if width >= _ALL_COLUMNS:
        chance = ("chance",) if width >= _ALL_COLUMNS + len(scrambled) * _COLUMN else ()
        headings = ("value", "95 % range", "n", "base", *scrambled, *chance, "p")
    table = _table()
    table.add_column("score (to what)", ratio=1)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for attack, group in groupby(words.paired(scores), key=lambda row: row[0].attack):
        table.add_row(_text(attack, style="bold"))
        for score, base, other in group:
            cells = {
                "value": words.decimal(score.value),
                "95 % range": words.interval(score.low, score.high),
                "n": str(score.n),
                "base": words.decimal(base.value) if base else "-",
                "scr.": words.decimal(other.value) if other else "-",
                "chance": words.decimal(score.null_p95),
                "p": words.p_value(score.p_value),
            }
            table.add_row(
                _text(f" {score.name} ({score.against})"), *(_text(cells[heading]) for heading in headings)
            )
    legend = (
        "base: the same number of the base model without the file, same embedding and seeds. "
        + ("scr.: of a scrambled copy of the file, as large and of nobody. " if scrambled else "")
        + ("chance: what 95 % of chance outcomes do not exceed. " if "chance" in headings else "")
        + "p: how often chance alone leads the base by as much."
    )
    return Group(table, _text(legend, style="dim"))


def _settings(report: Report) -> RenderableType:
    return _grid((label, _text(value)) for label, value in words.settings_rows(report.settings, digits=16))


def _gaps(report: Report) -> RenderableType:
    if not report.incomplete:
        return Padding(Text("Nothing was left out of what was asked for."), (0, 0, 0, 2))
    return _grid((gap.what, _text(gap.why, _QUOTED_LIMIT)) for gap in report.incomplete)


def _summary(reports: Sequence[Report]) -> RenderableType:
    many = len(reports) > _WHOLE
    table = _table()
    table.add_column("verdict", no_wrap=True)
    table.add_column("file", ratio=1, overflow="fold")
    if many:
        table.add_column("rules", ratio=1)
    # Of many the worst come last, above the prompt.
    ordered = sorted(reports, key=lambda report: report.verdict.level) if many else reports
    for report in ordered:
        style = _STYLE[report.verdict.level]
        row = [Text(words.level(report), style=style), _text(report.target.name, _NAME_LIMIT)]
        table.add_row(*row, *([_text(_rules(report), style="dim")] if many else []))
    heading = Rule(_text(f"{len(reports)} targets", style="bold"), align="left", style="dim")
    return _below(Group(heading, table, *(_totals(reports) if many else ())))


def _rules(report: Report) -> str:
    """The rules behind the verdict, or what was not looked at."""
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
    bound = (
        words.LOWER_BOUND
        if any(report.settings.depth == "attack" for report in reports)
        else words.WORDS_ONLY
    )
    return [_below(_text(told, style="bold")), _text(more), _text(bound, style="dim")]


def _below(part: RenderableType) -> RenderableType:
    return Padding(part, (1, 0, 0, 0))


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, expand=True, padding=(0, 1), pad_edge=False, show_edge=False)


def _title(title: str) -> RenderableType:
    return _below(Rule(Text(title, style="bold"), align="left", style="dim"))


def _grid(rows: Iterable[tuple[str, Text]]) -> RenderableType:
    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column(style="dim", no_wrap=False, max_width=20)
    grid.add_column(ratio=1, overflow="fold")
    for label, value in rows:
        grid.add_row(_text(label, 40), value)
    return Padding(grid, (0, 0, 0, 2))


def _text(text: str, limit: int | None = None, style: str = "") -> Text:
    return Text(plain(text, limit), style=style, overflow="fold")

"""Report as one HTML file that needs nothing else: no script, no font, no address outside the file.

Jinja2 escapes every value, and every text goes through `clean` before. A content security policy allows only
the style sheet, by its hash, and pictures inside the file. Markup that slipped through would run and fetch
nothing.
"""

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import Any, Final

from jinja2 import DictLoader, Environment, StrictUndefined, Template
from markupsafe import Markup

from loraudit.findings.exhibits import Sheet
from loraudit.findings.finding import Finding, Score, leading_attack
from loraudit.findings.report import Report
from loraudit.report import words
from loraudit.report.figures import (
    Histogram,
    block_shares,
    control_plots,
    histogram,
    key_plot,
    largest_module,
)
from loraudit.text import clean

__all__ = ["render"]

_LONGEST: Final = 4000
"""Characters of one text at most."""
_TOLD: Final = {"attack", "k", "n", "base_k", "base_n", "low", "high", "texts", "threshold_from"}
"""Numbers that the sentence of the finding, or another number, tells already."""
_LABELS: Final = {
    "value": "share",
    "interval": "95 % range",
    "base_value": "base model alone",
    "scrambled_value": "scrambled copy",
    "null_p95": "chance reaches",
    "p_value": "p",
    "calibrated_p": "p among control LoRAs",
    "one_person_p": "p of being of one person",
    "threshold": "one person from cosine",
    "far": "false accepts",
    "attacks": "attacks planned",
    "policy": "policy version",
}
"""Labels of numbers, in the order shown; other numbers come after."""
_ROWS: Final = {
    "reference": ("Your reference photos", "never seen by the attack"),
    "tuned": ("With the file", "what came back"),
    "base": ("Base model alone", "same input and seeds, without the file"),
    "scrambled": ("A scrambled copy", "as strong as the file, of nobody"),
}


_ScoreRow = tuple[Score, Score | None, Score | None]


@dataclass(frozen=True)
class _Picture:
    uri: Markup
    alt: str


@dataclass(frozen=True)
class _Row:
    label: str
    note: str
    of_file: bool
    """True for pictures made with the file."""
    pictures: tuple[_Picture, ...]


def render(reports: Sequence[Report], *, reveal: bool = False) -> str:
    """Return one page; several reports stand one below the other, under a table of their verdicts."""
    style = _text("html.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    page = _template().render(
        reports=reports,
        reveal=reveal,
        # The style sheet and its digest are loraudit's own.
        style=Markup(style),  # noqa: S704
        digest=Markup(digest),  # noqa: S704
    )
    return f"{page.strip()}\n"


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=DictLoader({"report": _text("html.jinja")}),
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(
        words=words,
        slug=_slug,
        facts=_facts,
        numbers=_numbers,
        sheet_rows=_sheet_rows,
        control_plots=control_plots,
        key_plot=key_plot,
        histograms_of=_histograms,
        by_attack=_by_attack,
        block_shares=block_shares,
        largest_module=largest_module,
        leading_attack=leading_attack,
    )
    return environment.get_template("report")


def _text(name: str) -> str:
    return files("loraudit.report").joinpath(name).read_text(encoding="utf-8")


def _shown(value: Any) -> Any:  # noqa: ANN401
    """Return a value that Jinja2 is about to escape and print, text in displayable characters only."""
    return clean(value, _LONGEST) if isinstance(value, str) and not isinstance(value, Markup) else value


def _slug(rule: str) -> str:
    """Return the anchor of a rule, `la-identity-001`, safe even for ids of a report that was read back."""
    return re.sub(r"[^a-z0-9]+", "-", rule.lower())


def _facts(report: Report) -> list[tuple[str, str]]:
    """Return labels and values of the file, as far as the file was read."""
    target = report.target
    rows = [
        ("File", target.name),
        ("Origin", target.origin),
        ("SHA-256", target.sha256),
        ("Size", words.size(target.size_bytes)),
        ("Contents", words.contents(target) if target.family is not None else None),
        ("Recognised base", target.base),
        ("loraudit", report.version),
    ]
    return [(label, value) for label, value in rows if value]


def _numbers(finding: Finding) -> list[tuple[str, str]]:
    """Return labels and numbers of a finding that its sentence does not tell."""
    told = {name: words.number(value) for name, value in finding.numbers.items() if name not in _TOLD}
    low, high = finding.numbers.get("low"), finding.numbers.get("high")
    if isinstance(low, int | float) and isinstance(high, int | float):
        told["interval"] = words.interval(low, high)
    names = sorted(told, key=lambda name: list(_LABELS).index(name) if name in _LABELS else len(_LABELS))
    return [(_LABELS.get(name, name.replace("_", " ")), told[name]) for name in names]


def _histograms(report: Report) -> list[Histogram]:
    return [plot for plot in map(histogram, report.distributions) if plot is not None]


def _by_attack(scores: Sequence[Score]) -> list[tuple[str, list[_ScoreRow]]]:
    grouped = groupby(words.paired(scores), key=lambda row: row[0].attack)
    return [(attack, list(rows)) for attack, rows in grouped]


def _sheet_rows(sheet: Sheet) -> list[_Row]:
    end = ", pixelated" if sheet.pixelated else ""
    rows = []
    for row in sheet.rows:
        label, note = _ROWS.get(row.kind, (row.kind, ""))
        photos = [f"photo {number}" for number in range(1, len(row.pngs) + 1)]
        # Of a control there may be fewer pictures than seeds.
        names = photos if row.kind == "reference" else [f"seed {seed}" for seed in sheet.seeds]
        pictures = tuple(
            _Picture(_data_uri(png), f"{label}, {name}{end}")
            for png, name in zip(row.pngs, names, strict=False)
        )
        rows.append(_Row(label, note, row.kind == "tuned", pictures))
    return rows


def _data_uri(png: bytes) -> Markup:
    # The letters of base64 need no escape, and `clean` would cut them.
    return Markup(f"data:image/png;base64,{base64.b64encode(png).decode()}")  # noqa: S704

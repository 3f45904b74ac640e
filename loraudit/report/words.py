"""Words and numbers that all formats for people share."""

import math
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from typing import Final

from loraudit.findings.conditions import CalibrationUsed, Settings
from loraudit.findings.finding import Score, Severity
from loraudit.findings.report import Report, Target
from loraudit.text import clean

__all__ = [
    "LOWER_BOUND",
    "MADE_ON",
    "NOTHING_DRAWN",
    "WORDS_ONLY",
    "caveat",
    "contents",
    "decimal",
    "in_order",
    "interval",
    "level",
    "made",
    "measured",
    "number",
    "p_value",
    "paired",
    "path_below",
    "people",
    "ranges",
    "settings_rows",
    "share",
    "size",
    "standards",
]

LOWER_BOUND = "A lower bound: a stronger attack may get back more. No audit proves a file safe."
MADE_ON = "Made on"
"""Label of the base that the file names."""
WORDS_ONLY = (
    "This scan read what the file says and attacked nothing. It says nothing about the person in the weights."
)
NOTHING_DRAWN = (
    "This scan drew no picture. Whom an adversary's pictures would show was not tried, and may be worse."
)
_ORDER = (
    "attack", "attacks", "value", "k", "n", "low", "high", "base_value", "base_k", "base_n",
    "scrambled_value", "null_p95", "p_value", "calibrated_p", "one_person_p", "threshold", "far",
)  # fmt: skip

_FINGERPRINT: Final = 16
"""Digits of a base's fingerprint that are shown to people."""


def caveat(report: Report) -> str:
    """Return the sentence on the limits of a report, however clean the report is."""
    if report.settings.pictures is False and report.settings.depth != "metadata":
        return NOTHING_DRAWN
    attacked = report.settings.depth == "attack" and report.settings.base is not None
    return LOWER_BOUND if attacked and report.scanned else WORDS_ONLY


def level(report: Report) -> str:
    """Return the level of the verdict, in capitals."""
    worst = report.verdict.level
    if not report.scanned and worst is Severity.INCONCLUSIVE:
        return "NOT SCANNED"
    return "NOTHING FOUND" if worst is Severity.NONE else worst.value.upper()


def made(report: Report) -> str:
    """Return the time of the scan, `Scanned 2026-11-30 10:00 UTC in 12 s`; empty if not known."""
    if report.made is None:
        return ""
    date, seconds = report.made.date, report.made.seconds
    return f"Scanned {date[:10]} {date[11:16]} UTC" + ("" if seconds is None else f" in {_duration(seconds)}")


def contents(target: Target) -> str:
    """Return family, layout, rank and modules of a LoRA."""
    parts = [f"{target.family} LoRA"]
    if target.dialect is not None:
        parts.append(f"{target.dialect} layout")
    if target.rank is not None:
        low, high = target.rank
        parts.append(f"rank {low}" if low == high else f"rank {low} to {high}")
    if target.modules is not None:
        parts.append(f"{target.modules.read} of {target.modules.total} modules read")
    return ", ".join(parts)


def path_below(target: Target) -> str:
    """Return a path below the folder that the scan was started in, never out of the folder."""
    parts = [part for part in clean(target.path or target.name, 500).split("/") if part.strip(".")]
    return "/".join(parts) or "unnamed"


def people(report: Report) -> list[tuple[str, str]]:
    """Return a label and a sentence for each person who comes back."""
    rows = []
    for number, person in enumerate(report.people, 1):
        told = f"in {person.pictures} of {person.n} pictures ({interval(person.low, person.high)})"
        if person.cosine is not None and person.accepted is not None:
            told += f"; cosine to the photos {share(person.cosine)}, {person.accepted} pass"
        rows.append((f"Person {number}", f"{told}; attack {person.attack}"))
    return rows


def paired(scores: Sequence[Score]) -> list[tuple[Score, Score | None, Score | None]]:
    """Return every score with its controls where there are any: base model, scrambled copy."""
    controls = {(score.name, score.attack, score.against): score for score in scores if score.is_control}
    return [
        (score, controls.get(score.of_control("base")), controls.get(score.of_control("scrambled")))
        for score in scores
        if not score.is_control
    ]


def settings_rows(settings: Settings, digits: int = 64, reveal: bool = False) -> list[tuple[str, str]]:
    """Return labels and values of all settings that are known, hashes cut to `digits` digits.

    `reveal` shows private words of the file.
    """
    encoder, spent, calibration = settings.encoder, settings.evaluations, settings.calibration
    rows = [
        ("Depth", settings.depth),
        ("Pictures", "none drawn, on request" if settings.pictures is False else ""),
        ("Base model", settings.base and _base(settings.base, settings.base_fingerprint, digits)),
        (MADE_ON, _made_on(settings, reveal)),
        ("Encoder", encoder and f"{encoder.name} (sha256 {_cut(encoder.sha256, digits)})"),
        ("Attacks", ", ".join(settings.attacks)),
        ("Not needed", ", ".join(settings.skipped)),
        ("Budget", settings.budget),
        ("Evaluations", spent and f"{spent.spent:,} of at most {spent.most:,}"),
        ("Calibration", calibration and _calibration(calibration)),
        ("Seeds", ranges(settings.seeds)),
        ("Device", ", ".join(filter(None, (settings.device, settings.dtype)))),
        ("Rules", settings.rules),
    ]
    return [(label, value) for label, value in rows if value]


def standards(rule: str) -> str:
    """Return the ids of public catalogues that `rule` has, `CWE: CWE-359, CWE-1230; ...`; empty if none."""
    from loraudit.verdict.standards import standards_of

    grouped = groupby(standards_of(rule), key=lambda entry: entry.scheme)
    return "; ".join(f"{scheme}: {', '.join(entry.id for entry in entries)}" for scheme, entries in grouped)


def in_order(
    numbers: Mapping[str, float | int | str | None],
) -> list[tuple[str, float | int | str | None]]:
    """Return the numbers of a finding, the weightiest first; unknown ones follow by name."""
    known = {name: at for at, name in enumerate(_ORDER)}
    return sorted(numbers.items(), key=lambda item: (known.get(item[0], len(known)), item[0]))


def number(value: float | int | str | None) -> str:
    """Return a number of a finding with two significant digits or decimals."""
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    if not math.isfinite(value):
        return "-"
    return f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"


def decimal(value: float | None) -> str:
    """Return a share or a cosine with three decimals; `-` if not known."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.3f}"


def measured(score: Score | None) -> str:
    """Return the value of a score with three decimals; a rank, the place among people, as a whole number."""
    value = None if score is None else score.value
    if score is None or value is None or not score.name.startswith("rank") or not math.isfinite(value):
        return decimal(value)
    return f"{value:g}"


def share(value: float | None) -> str:
    """Return a share or a cosine with two decimals; `-` if not known."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.2f}"


def p_value(value: float | None) -> str:
    """Return a p-value with three decimals, or `<0.001`."""
    return "<0.001" if value is not None and value < 0.001 else decimal(value)


def interval(low: float | None, high: float | None) -> str:
    """Return the ends of an interval with two decimals; `-` if not known."""
    if low is None or high is None or not math.isfinite(low + high):
        return "-"
    return f"{low:.2f} to {high:.2f}"


def size(size_bytes: int | None) -> str:
    """Return the size of a file in decimal units, `1.5 MB`; empty if not known."""
    if size_bytes is None:
        return ""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size_bytes >= scale:
            return f"{size_bytes / scale:.1f} {unit}"
    return f"{size_bytes} bytes"


def ranges(seeds: Sequence[int]) -> str:
    """Return runs of consecutive seeds in the order given, `0 to 7, 9`."""
    cuts = [i + 1 for i, (a, b) in enumerate(pairwise(seeds)) if b != a + 1]
    runs = [seeds[a:b] for a, b in pairwise([0, *cuts, len(seeds)])] if seeds else []
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


def _duration(seconds: float) -> str:
    """Return `0.4 s`, `12 s`, `3 min 20 s` or `2 h 5 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _calibration(used: CalibrationUsed) -> str:
    told = f"{used.name}, {used.controls} control LoRAs"
    return f"{told}; not used: {used.unused}" if used.unused else told


def _made_on(settings: Settings, reveal: bool) -> str:
    """Return what the file says of its base where that is not the base of the scan; empty otherwise."""
    stated = settings.stated_base
    if stated is None or stated.agrees:
        return ""
    return (
        f"{stated.told(reveal)}, the file says; scanned on {settings.base}. An attack sees most on "
        "the file's own base (--base)."
    )


def _base(name: str, fingerprint: str | None, digits: int) -> str:
    return name if fingerprint is None else f"{name} (weights {_cut(fingerprint, min(digits, _FINGERPRINT))})"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}…"

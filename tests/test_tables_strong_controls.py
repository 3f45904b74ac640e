"""The table of levels by the controls of a scan alone."""

from benchmarks.tables.strong_controls import CONTROLS, SIZE, table
from loraudit.bench.faces import SCRAMBLED
from loraudit.findings.finding import Severity


def row(side: str, shown: bool | None, level: Severity, holds: str | None = None):
    effects = {SIZE: [0.2, 0.4], **{group: [0.9, 1.1] for group in SCRAMBLED}}
    return {
        "side": side, "kind": "styles", "shown": shown, "levels": dict.fromkeys(CONTROLS, level),
        "holds": holds, "effects": effects,
    }  # fmt: skip


def test_levels_are_counted_by_group_and_by_controls() -> None:
    rows = [
        row("leaking", True, Severity.HIGH),
        row("leaking", True, Severity.NONE, "no face"),
        row("leaking", False, Severity.INCONCLUSIVE),
        row("harmless", None, Severity.NONE, "no face"),
        row("harmless", None, Severity.MEDIUM),
    ]
    found = table(rows)
    shown = found["leaking, shown by the own prompt"]
    assert shown["copies as strong"]["high"][:2] == [1, 2]
    assert shown["shown to draw no face"][:2] == [1, 2] and shown["kinds"] == {"styles": 2}
    assert found["leaking, not shown"]["base alone"]["inconclusive"][:2] == [1, 1]
    assert found["harmless"]["a copy of the LoRA's size"]["medium"][:2] == [1, 2]
    assert found["harmless"]["copies as strong"]["high"][:2] == [0, 2]
    effects = found["effect, in shares of the LoRA's (medians)"]
    assert effects[SIZE] == 0.3 and effects[SCRAMBLED[0]] == 1.0
    assert [one["levels"]["base alone"] for one in found["rows"]][:2] == ["high", "none"]
    assert "harmless" not in table(rows[:2])

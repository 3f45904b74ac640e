"""Findings that are allowed or known: what they are the same as, and what they do to the exit code."""

from dataclasses import replace
from itertools import product

import pytest

from loraudit.findings.conditions import Settings
from loraudit.findings.exits import Exit, exit_code
from loraudit.findings.finding import Allowed, Confidence, Finding, Severity
from loraudit.findings.fingerprints import fingerprint
from loraudit.findings.report import Gap, Report, Target

TARGET = Target("a.safetensors", sha256="0" * 64, size_bytes=1, family="sd")
FINDING = Finding(
    "LA-NAME-001", Severity.HIGH, Confidence.HIGH, "Title.", "Seen.", "Do.",
    numbers={"value": 0.5}, quotes=("jane doe",), places=("ss_dataset_dirs", "ss_tag_frequency"),
)  # fmt: skip
SAME = fingerprint(TARGET, FINDING)
EXCUSES = (
    {"known": True},
    {"allowed": Allowed("It is I.")},
    {"known": False, "allowed": Allowed("It is I.")},
)


@pytest.mark.parametrize(
    "change",
    [
        {"severity": Severity.LOW},
        {"confidence": Confidence.LOW},
        {"numbers": {}},
        {"title": "x", "detail": "x", "remedy": "x", "summary": "x"},
        {"quotes": ("john doe",)},
        {"places": FINDING.places[::-1]},
        {"known": True},
    ],
)
def test_the_fingerprint_is_the_same(change: dict[str, object]) -> None:
    assert fingerprint(TARGET, replace(FINDING, **change)) == SAME


def test_of_the_same_file_in_other_bytes_it_is_the_same() -> None:
    assert fingerprint(replace(TARGET, sha256=None, size_bytes=2, family=None), FINDING) == SAME
    hub = replace(TARGET, origin="hf://ns/name@0123abc/loras/a.safetensors")
    assert fingerprint(hub, FINDING) == fingerprint(
        replace(hub, origin="hf://ns/name@f/loras/a.safetensors"), FINDING
    )


def test_of_anything_else_it_is_another() -> None:
    hub = replace(TARGET, origin="hf://ns/name@0123abc/loras/a.safetensors")
    others = [
        fingerprint(replace(TARGET, name="b.safetensors"), FINDING),
        fingerprint(hub, FINDING),
        fingerprint(replace(hub, origin="hf://ns/other@0123abc/loras/a.safetensors"), FINDING),
        fingerprint(replace(hub, origin="hf://ns/name@0123abc/a.safetensors"), FINDING),
        fingerprint(TARGET, replace(FINDING, id="LA-NAME-002")),
        fingerprint(TARGET, replace(FINDING, places=("ss_dataset_dirs",))),
        fingerprint(TARGET, replace(FINDING, places=())),
    ]
    assert len({SAME, *others}) == 1 + len(others)


def report(*findings: Finding, depth: str = "attack", gaps: int = 0) -> Report:
    return Report("0", TARGET, findings, settings=Settings(depth=depth), incomplete=(Gap("x", "y"),) * gaps)


@pytest.mark.parametrize("excuse", EXCUSES)
def test_what_is_excused_does_not_count(excuse: dict[str, object]) -> None:
    for severity in (Severity.CRITICAL, Severity.INCONCLUSIVE):
        bad = replace(FINDING, severity=severity)
        assert exit_code(report(bad)) is not Exit.CLEAN
        excused = report(replace(bad, **excuse))
        assert exit_code(excused, Severity.LOW) is Exit.CLEAN
        assert excused.verdict.level is severity, "it stays what it is"
        assert excused.excused.startswith("Findings that do not count for the exit code: 1 ")
        assert exit_code(report(replace(bad, **excuse), FINDING)) is Exit.FOUND, "only that one is"


@pytest.mark.parametrize("excuse", EXCUSES)
def test_what_was_not_looked_at_always_counts(excuse: dict[str, object]) -> None:
    assert exit_code(report(replace(FINDING, **excuse), gaps=1)) is Exit.INCOMPLETE
    nothing = Report("0", Target("x"), (replace(FINDING, **excuse),), incomplete=(Gap("target", "a page"),))
    assert exit_code(nothing) is Exit.NOTHING


def test_without_excuses_nothing_changes() -> None:
    """The exit code as the verdict gives it."""
    for depth, gaps, severities in product(
        ("metadata", "attack"),
        (0, 1),
        ((), *((one,) for one in Severity), (Severity.LOW, Severity.INCONCLUSIVE)),
    ):
        one = report(
            *(replace(FINDING, severity=severity) for severity in severities), depth=depth, gaps=gaps
        )
        level = one.verdict.level
        expected = Exit.FOUND if level >= Severity.HIGH else Exit.CLEAN
        if expected is Exit.CLEAN and (gaps or Severity.INCONCLUSIVE in (level, *severities)):
            expected = Exit.INCOMPLETE
        assert exit_code(one) is expected
        assert not one.excused


def test_an_excuse_says_why_and_until_when() -> None:
    assert replace(FINDING, allowed=Allowed("It is I.", "2027-01-31"), known=True).excuse == (
        "Allowed until 2027-01-31, does not count: It is I."
    )
    assert replace(FINDING, known=True).excuse == "Known from the baseline, does not count."
    assert replace(FINDING, known=False).excuse == FINDING.excuse == ""

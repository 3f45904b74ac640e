"""`--select` and `--ignore`, `--min-severity`, `--exclude` and `--targets-from`."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from loraudit.audit.exclude import is_excluded
from loraudit.errors import LorauditError
from loraudit.findings.conditions import Settings
from loraudit.findings.exits import Exit, exit_code
from loraudit.findings.finding import Severity
from loraudit.findings.report import Report, Target
from loraudit.gate.choice import choose_rules, withhold
from loraudit.report import FORMATS
from loraudit.report.load import load_reports
from loraudit.verdict.catalogue import catalogue
from tests.headers import KOHYA, write
from tests.test_report_formats import REPORT

Scan = Callable[..., tuple[int, str, str]]
METADATA = ("--depth", "metadata")
EVERY = frozenset(rule.id for rule in catalogue())


@pytest.fixture
def jane(tmp_path: Path) -> Path:
    (tmp_path / "loras").mkdir()
    return write(tmp_path / "loras" / "jane.safetensors", KOHYA)


def report(scan: Scan, *arguments: object) -> dict:
    return json.loads(scan(*arguments, *METADATA, "-f", "json")[1])


def ids(scan: Scan, *arguments: object) -> set[str]:
    return {finding["id"] for finding in report(scan, *arguments)["findings"]}


def names(scan: Scan, *arguments: object) -> list[str]:
    document = json.loads(scan(*arguments, *METADATA, "-f", "json")[1])
    return [one["target"]["name"] for one in document.get("reports", [document])]


# Rules


def test_only_the_chosen_rules_count_and_the_report_says_so(scan: Scan, jane: Path) -> None:
    every = ids(scan, jane)
    assert {"LA-NAME-001", "LA-NAME-002", "LA-PATH-001"} <= every
    assert scan(jane, *METADATA)[0] == 1
    assert ids(scan, jane, "--select", "LA-NAME-001") == {"LA-NAME-001"}
    assert ids(scan, jane, "--select", "la-name") == {"LA-NAME-001", "LA-NAME-002"}
    assert ids(scan, jane, "--ignore", "LA-NAME") == every - {"LA-NAME-001", "LA-NAME-002"}
    assert ids(scan, jane, "--select", "LA-NAME", "--ignore", "LA-NAME-001") == {"LA-NAME-002"}
    code, out, _ = scan(jane, *METADATA, "--ignore", "LA-NAME-001")
    assert (code, "VERDICT: MEDIUM" in out) == (0, True)
    assert "rules without LA-NAME-001" in " ".join(out.split())


def test_a_choice_that_finds_nothing_does_not_call_the_file_clean(scan: Scan, jane: Path) -> None:
    code, out, _ = scan(jane, *METADATA, "--select", "LA-SECRET-001")
    told = " ".join(out.replace("┃", " ").split())
    assert code == 0
    assert "None of the rules that were asked for found anything. The other rules did not count." in told
    assert "Nothing in the metadata gives anybody away" not in told
    assert report(scan, jane, "--select", "LA-SECRET")["settings"]["rules"] == "only LA-SECRET"
    assert "rules" not in report(scan, jane)["settings"]


def test_a_choice_excuses_nothing_that_was_not_looked_at(scan: Scan, tmp_path: Path) -> None:
    page = tmp_path / "page.safetensors"
    page.write_text("<!DOCTYPE html>")
    assert scan(page, *METADATA, "--select", "LA-NAME")[0] == 3
    empty = Report("0", Target("a", family="sd"), settings=Settings(rules="only LA-NAME"))
    assert exit_code(empty) is Exit.CLEAN
    assert exit_code(Report("0", Target("a", family="sd"))) is Exit.INCOMPLETE, "the control"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--select", "LA-GONE-001"], "no rule is called 'LA-GONE-001'"),
        (["--ignore", "LA-NAM"], "no rule is called 'LA-NAM'"),
        (["--ignore", "LA-NAME-"], "no rule is called 'LA-NAME-'"),
        (["--select", ""], "no rule is called ''"),
        (["--select", "\x1b[2J"], r"no rule is called '\\x1b[2J'"),
        (["--ignore", "LA"], "leave no rule"),
        (["--select", "LA-NAME-001", "--ignore", "LA-NAME"], "leave no rule"),
    ],
)
def test_mistakes_in_a_choice(scan: Scan, jane: Path, arguments: list[str], told: str) -> None:
    code, out, err = scan(jane, *METADATA, *arguments)
    assert (code, out) == (2, "")
    assert told in err and len(err.splitlines()) == 2


def test_every_rule_can_be_chosen() -> None:
    for rule in EVERY:
        one, others = choose_rules([rule], ()), choose_rules((), [rule])
        assert one is not None and one.kept == {rule}
        assert others is not None and others.kept == EVERY - {rule}
    assert choose_rules((), ()) is None
    with pytest.raises(LorauditError):
        choose_rules(["LA-NAME-0"], ())


# What is shown


@pytest.mark.parametrize("kind", FORMATS)
def test_what_is_not_shown_is_counted(scan: Scan, jane: Path, kind: str) -> None:
    every = report(scan, jane)
    code, out, _ = scan(jane, *METADATA, "--min-severity", "high", "-f", kind)
    assert code == 1
    assert "LA-NAME-001" in out
    if kind not in {"sarif", "json"}:  # these name every rule, or those that are hidden
        assert "LA-PATH-001" in scan(jane, *METADATA, "-f", kind)[1]
        assert not any(f["id"] in out for f in every["findings"] if f["severity"] != "high")
    shown = [one["id"] for one in json.loads(out)["findings"]] if kind == "json" else []
    assert "LA-PATH-001" not in shown
    if kind in {"text", "markdown", "html"}:
        assert "not shown" in out and "--min-severity" in out


def test_the_exit_code_and_the_level_stay(scan: Scan, jane: Path, tmp_path: Path) -> None:
    for least in ("low", "medium", "high", "critical"):
        for limit, code in (("low", 1), ("high", 1), ("critical", 0)):
            shown = tmp_path / "shown.json"
            gate = (*METADATA, "--min-severity", least, "--fail-on", limit)
            assert scan(jane, *gate, "-f", "json", "-o", shown)[0] == code
            (again,) = load_reports(shown.read_bytes())
            assert again.verdict.level is Severity.HIGH
            assert exit_code(again, Severity(limit)) == code
    assert report(scan, jane, "--min-severity", "critical")["verdict"] == {
        "level": "high",
        "reasons": ["The findings of this level are not shown."],
        "why": "No level is lower; a finding of critical would raise it.",
    }


def test_what_is_inconclusive_is_always_shown() -> None:
    shown = withhold(REPORT, Severity.CRITICAL)
    assert [finding.id for finding in shown.findings] == []
    assert [one.id for one in shown.withheld or ()] == [finding.id for finding in REPORT.findings]
    assert [one.counts for one in shown.withheld or ()] == [finding.counts for finding in REPORT.findings]
    assert withhold(shown, Severity.CRITICAL) == shown
    assert withhold(REPORT, Severity.LOW) == REPORT
    assert exit_code(shown) == exit_code(REPORT)


def test_an_inconclusive_finding_is_shown(scan: Scan, tmp_path: Path) -> None:
    broken = write(tmp_path / "x.safetensors", {"ss_tag_frequency": "{"})
    assert "LA-HIDDEN-002" in scan(broken, *METADATA, "--min-severity", "critical")[1]


# What is scanned


@pytest.mark.parametrize(
    ("pattern", "path", "out"),
    [
        ("*.safetensors", "a.safetensors", True),
        ("a.safetensors", "loras/a.safetensors", True),
        ("drafts", "loras/drafts/deep/a.safetensors", True),
        ("drafts/", "drafts/a.safetensors", True),
        ("./drafts", "drafts/a.safetensors", True),
        ("loras/drafts", "loras/drafts/a.safetensors", True),
        ("loras/*", "loras/drafts/a.safetensors", True),
        ("[ab].safetensors", "b.safetensors", True),
        ("/srv/x", "/srv/x/a.safetensors", True),
        ("*srv*", "/srv/x/a.safetensors", False),
        ("srv", "/srv/x/a.safetensors", False),
        ("a", "a.safetensors", False),
        ("drafts/*", "a.safetensors", False),
        ("A.safetensors", "a.safetensors", False),
        ("", "a.safetensors", False),
        ("drafts/deep", "drafts/a.safetensors", False),
    ],
)
def test_patterns(pattern: str, path: str, out: bool) -> None:
    assert is_excluded([pattern], path) is out
    assert is_excluded(["nothing", pattern], path) is out
    assert not is_excluded([], path)


def test_excluded_files_are_not_scanned(
    scan: Scan, jane: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = jane.parent
    (folder / "drafts").mkdir()
    write(folder / "drafts" / "mary.safetensors", KOHYA)
    write(folder / "clean.safetensors", {})
    (folder / "drafts" / "x.pt").touch()
    every = ["clean.safetensors", "drafts/mary.safetensors", "jane.safetensors"]
    assert names(scan, folder) == every
    assert names(scan, folder, "--exclude", "drafts", "--exclude", "jane*") == ["clean.safetensors"]
    code, out, err = scan(folder, *METADATA, "--exclude", "drafts/*", "--exclude", "jane.safetensors")
    assert (code, "LA-PICKLE" in out) == (0, False)
    assert "loras: 2 of 3 targets excluded" in err
    monkeypatch.chdir(tmp_path)
    assert names(scan, "loras", "--exclude", "loras/drafts") == [every[0], every[2]]
    assert names(scan, "loras/jane.safetensors", "loras/clean.safetensors", "--exclude", "jane*") == [
        every[0]
    ]
    for all_of_it in ("*", "loras", "loras/", str(folder)):
        code, out, err = scan("loras", *METADATA, "--exclude", all_of_it)
        assert (code, out) == (3, "")
        assert "--exclude leaves nothing to scan" in err


def test_targets_from_a_file(scan: Scan, jane: Path, tmp_path: Path) -> None:
    odd = write(jane.parent / " mary doe .safetensors", {})
    listed = tmp_path / "list"
    listed.write_text(f"# ours\n\n{jane}\r\n  \n{odd}")
    both = ["jane.safetensors", odd.name]
    assert names(scan, "--targets-from", listed) == both
    assert names(scan, odd, "--targets-from", listed) == [odd.name, *both]
    listed.write_text("# nothing\n")
    code, out, err = scan("--targets-from", listed, *METADATA)
    assert (code, out) == (2, "") and "no LoRA to scan" in err
    assert scan("--targets-from", listed, "--example", *METADATA)[0] == 0


def test_targets_from_stdin(scan: Scan, jane: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(f"{jane}\n".encode())))
    assert names(scan, "--targets-from", "-") == ["jane.safetensors"]


def test_lists_that_cannot_be_used(scan: Scan, tmp_path: Path) -> None:
    (tmp_path / "nul").write_bytes(b"a\0b")
    for name, told in (("gone", "No such file"), ("nul", "NUL"), (".", "not a regular file")):
        code, out, err = scan("--targets-from", tmp_path / name, *METADATA)
        assert (code, out) == (2, "")
        assert told in err and len(err.splitlines()) == 2


def test_a_list_is_no_place_for_a_report(scan: Scan, jane: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list"
    listed.write_text(f"{jane}\n")
    assert scan("--targets-from", listed, *METADATA, "-o", listed)[0] == 2
    assert listed.read_text() == f"{jane}\n"

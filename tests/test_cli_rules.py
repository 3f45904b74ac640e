"""`loraudit rules`: what it says of a rule is what the code does, and docs/rules.md is what it says."""

import ast
import json
import re
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from loraudit.cli import main
from loraudit.cli.rules import rules_markdown, rules_text
from loraudit.findings.finding import Severity
from loraudit.metadata.judge import METADATA_RULES
from loraudit.verdict.catalogue import catalogue
from loraudit.verdict.policy import Policy
from loraudit.verdict.rules import ACCEPTED, AGREEMENT, COPIES, LIKELIHOOD, TOO_FEW_FACES

ROOT = Path(__file__).parent.parent
IDENTITY = {rule.id: rule for rule in (AGREEMENT, ACCEPTED, LIKELIHOOD, COPIES, TOO_FEW_FACES)}
BY_ID = {rule.id: rule for rule in catalogue()}


@pytest.fixture
def run(monkeypatch, capsys):
    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["loraudit", "rules", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return command


def emitted() -> dict[str, set[Severity]]:
    """The severities that the metadata audit gives each rule, read off its source."""
    found: dict[str, set[Severity]] = defaultdict(set)
    for file in (ROOT / "loraudit/metadata").glob("*.py"):
        for function in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(function, ast.FunctionDef):
                continue
            for call in ast.walk(function):
                if not isinstance(call, ast.Call) or len(call.args) < 2:
                    continue
                rule, severity = call.args[:2]
                if isinstance(rule, ast.Constant) and str(rule.value).startswith("LA-"):
                    found[rule.value] |= named(severity) or chosen(function)
    return found


def named(node: ast.AST) -> set[Severity]:
    return {
        Severity[inner.attr]
        for inner in ast.walk(node)
        if isinstance(inner, ast.Attribute) and ast.unparse(inner.value) == "Severity"
    }


def chosen(function: ast.FunctionDef) -> set[Severity]:
    """What is assigned to the name `severity`."""
    return {
        severity
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and "severity" in ast.unparse(node.targets[0])
        for severity in named(node.value)
    }


def test_every_rule_is_explained() -> None:
    assert set(BY_ID) == {*METADATA_RULES, *IDENTITY}
    for rule in BY_ID.values():
        assert rule.looks_at and rule.meaning and rule.remedy
        assert list(rule.levels) == sorted(rule.levels, reverse=True)
        assert len(rule.levels) == 1 or all(rule.levels.values())


def test_the_levels_are_those_of_the_code() -> None:
    levels = {id_: set(rule.levels) for id_, rule in BY_ID.items()}
    assert {id_: levels[id_] for id_ in METADATA_RULES} == emitted()
    for id_, rule in IDENTITY.items():
        assert levels[id_] == set(rule.words) | ({Severity.INCONCLUSIVE} if rule.doubts else set())


def test_the_numbers_are_those_of_the_policy() -> None:
    policy = Policy()
    agreement = BY_ID[AGREEMENT.id]
    assert f"{policy.high_agreement:.2f}" in agreement.levels[Severity.HIGH]
    assert f"{policy.low_p:g}" in agreement.looks_at
    assert f"{policy.critical_low:.2f}" in BY_ID[ACCEPTED.id].levels[Severity.CRITICAL]


def test_the_page_is_current(run) -> None:
    page = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
    assert page == rules_markdown(catalogue()), "make it anew: loraudit rules --format markdown"
    assert run("--format", "markdown") == (0, page, "")
    assert re.findall(r"^### (LA-[A-Z]+-\d{3})$", page, re.MULTILINE) == list(BY_ID)
    assert f"policy {Policy().version}" in page


def test_the_list_and_one(run) -> None:
    code, out, err = run()
    assert (code, err) == (0, "")
    assert all(f"{rule.id} " in out and rule.title in out for rule in BY_ID.values())
    code, out, err = run("la-name-001")
    assert (code, err) == (0, "")
    assert "ss_dataset_dirs" in out and "high: " in out and "loraudit scrub" in out
    assert "LA-PATH" not in out


@pytest.mark.parametrize("width", [40, 60, 80])
def test_narrow(width: int) -> None:
    for rule in BY_ID.values():
        text = rules_text([rule], width=width)
        assert max(map(len, text.splitlines()[1:])) <= width
    assert rules_text([*BY_ID.values()], width=width)


def test_json(run) -> None:
    _, out, _ = run("--format", "json")
    document = json.loads(out)
    assert (document["schema"], document["policy"]) == ("loraudit.rules/1", Policy().version)
    assert [rule["id"] for rule in document["rules"]] == list(BY_ID)
    secret = json.loads(run("LA-SECRET-001", "-f", "json")[1])["rules"][0]
    assert secret["levels"] == [{"severity": "critical", "when": None}]


def test_no_such_rule(run) -> None:
    code, out, err = run("LA-NAME-1")
    assert (code, out) == (2, "")
    assert "there is no rule LA-NAME-1" in err and "LA-NAME-001" in err
    code, _, err = run("\x1b[31mx")
    assert code == 2
    assert "\x1b" not in err and "lists them all" in err

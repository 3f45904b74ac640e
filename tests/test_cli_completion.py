"""`loraudit completion`: bash, given the script, answers with commands, options and their values."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from loraudit.cli import main
from loraudit.cli.app import Commands
from loraudit.cli.completion import read_commands
from loraudit.findings.finding import Severity

ROOT = Path(__file__).parent.parent
BASH = shutil.which("bash")


@pytest.fixture(scope="module")
def script() -> str:
    done = subprocess.run(
        [sys.executable, "-m", "loraudit", "completion", "bash"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return done.stdout


def answers(script: str, *words: str, folder: Path | None = None) -> set[str]:
    """What bash offers for the last of `words`, as it splits what is typed after `loraudit `."""
    assert BASH is not None
    quoted = " ".join(f"'{word}'" for word in ("loraudit", *words))
    probe = (
        f"{script}\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words)}; _loraudit\n"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        [BASH, "--norc", "-uc", probe],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env={"PATH": os.environ["PATH"]},
    )
    assert done.stderr == ""
    return set(done.stdout.split())


def test_commands(script) -> None:
    assert answers(script, "") == {*Commands.names, "--version", "--help"}
    assert answers(script, "sc") == {"scan", "scrub"}
    assert answers(script, "nothing") == set()


def test_options(script) -> None:
    offered = answers(script, "scan", "--")
    assert {"--depth", "--fail-on", "--base", "--reveal", "--help"} <= offered
    assert "--export" not in offered, "that of another command"
    assert answers(script, "scan", "x.safetensors", "--fa") == {"--fail-on"}
    assert answers(script, "inspect", "--ex") == {"--export"}
    assert {"--cosine", "--no-cosine", "--zoo"} <= answers(script, "train-encoder", "--")


def test_values(script) -> None:
    assert answers(script, "scan", "--depth", "") == {"metadata", "weights", "attack"}
    assert answers(script, "scan", "--depth", "m") == {"metadata"}
    assert answers(script, "scan", "--depth", "=", "w") == {"weights"}
    assert answers(script, "scan", "--depth", "=") == {"metadata", "weights", "attack"}
    levels = {level.value for level in Severity if level >= Severity.LOW}
    assert answers(script, "scan", "--fail-on", "") == {*levels, "never"}
    assert "search" in answers(script, "scan", "--attack", "encoder", "--attack", "")
    assert {"info", "clear"} <= answers(script, "cache", "")
    assert {"attacks", "verdict"} <= answers(script, "bench", "")


def test_files_are_left_to_the_shell(script, tmp_path) -> None:
    (tmp_path / "ada.safetensors").touch()
    assert answers(script, "scan", "", folder=tmp_path) == set(), "so that `-o default` takes over"
    assert answers(script, "scan", "--reference", "", folder=tmp_path) == set()
    assert "complete -o default -F _loraudit loraudit" in script


def test_every_option_that_the_help_shows(monkeypatch, capsys) -> None:
    for command in read_commands(Commands.package, Commands.names):
        monkeypatch.setattr(sys, "argv", ["loraudit", command.name, "--help"])
        with pytest.raises(SystemExit):
            main()
        shown = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", capsys.readouterr().out))
        assert {word for word in shown if word.startswith("--")} <= set(command.options), command.name
        assert set(command.options) <= shown, command.name


def test_zsh_takes_the_script_of_bash(script, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["loraudit", "completion", "zsh"])
    with pytest.raises(SystemExit):
        main()
    first, _, rest = capsys.readouterr().out.partition("\n")
    assert "bashcompinit" in first and rest == script

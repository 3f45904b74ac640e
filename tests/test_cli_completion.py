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
from loraudit.findings.finding import Severity

ROOT = Path(__file__).parent.parent
BASH = shutil.which("bash")
NAMES = {name for names in Commands.groups.values() for name in names}


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


@pytest.fixture(scope="module")
def bash(script, tmp_path_factory):
    """What bash offers for the last of the words, as it splits what is typed after `loraudit `."""
    assert BASH is not None
    program = tmp_path_factory.mktemp("bin") / "loraudit"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m loraudit "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"

    def answers(*words: str, folder: Path | None = None) -> set[str]:
        quoted = " ".join(f"'{word}'" for word in ("loraudit", *words))
        probe = (
            f"{script}\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words)}; _loraudit_completion loraudit\n"
            'printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run(
            [BASH, "--norc", "-c", probe],
            capture_output=True,
            text=True,
            check=True,
            cwd=folder,
            env={"PATH": path, "PYTHONPATH": str(ROOT)},
        )
        assert done.stderr == ""
        return set(done.stdout.split())

    return answers


def test_commands(bash) -> None:
    assert bash("") == NAMES
    assert bash("--") == {"--version", "--help"}
    assert bash("sc") == {"scan", "scrub"}
    assert bash("nothing") == set()


def test_options(bash) -> None:
    offered = bash("scan", "--")
    assert {"--depth", "--fail-on", "--base", "--reveal", "--help"} <= offered
    assert "--export" not in offered, "that of another command"
    assert bash("scan", "x.safetensors", "--fa") == {"--fail-on"}
    assert bash("inspect", "--ex") == {"--export"}
    assert {"--cosine", "--no-cosine", "--zoo"} <= bash("train-encoder", "--")


def test_values(bash) -> None:
    assert bash("scan", "--depth", "") == {"metadata", "weights", "attack"}
    assert bash("scan", "--depth", "m") == {"metadata"}
    assert bash("scan", "--depth", "=", "w") == {"weights"}
    assert bash("scan", "--depth", "=") == {"metadata", "weights", "attack"}
    levels = {level.value for level in Severity if level >= Severity.LOW}
    assert bash("scan", "--fail-on", "") == {*levels, "never"}
    assert "search" in bash("scan", "--attack", "encoder", "--attack", "")
    assert {"info", "clear"} <= bash("cache", "")
    assert {"attacks", "verdict"} <= bash("bench", "")


def test_files_are_left_to_the_shell(script, bash, tmp_path) -> None:
    (tmp_path / "ada.safetensors").touch()
    assert bash("scan", "", folder=tmp_path) == set(), "so that `-o default` takes over"
    assert bash("scan", "--reference", "", folder=tmp_path) == set()
    assert "complete -o default -F _loraudit_completion loraudit" in script


@pytest.mark.parametrize("command", sorted(NAMES))
def test_every_option_that_the_help_shows(command, bash, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["loraudit", command, "--help"])
    with pytest.raises(SystemExit):
        main()
    options = capsys.readouterr().out.partition("\nOptions:")[2].partition("Examples:")[0]
    shown = set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)(?: / (--[a-z-]+))?", options, re.MULTILINE))
    offered = bash(command, "--")
    assert offered == {word for words in shown for word in words if word}
    assert "--help" in offered


@pytest.mark.parametrize("shell", ["zsh", "fish", "powershell"])
def test_other_shells(shell, monkeypatch, capsys) -> None:
    """Their own programs are not here; the answers are, in the format that the script asks for."""
    monkeypatch.setattr(sys, "argv", ["loraudit", "completion", shell])
    with pytest.raises(SystemExit):
        main()
    script = capsys.readouterr().out
    assert f"complete_{shell}" in script and "loraudit" in script
    environment = {
        "PYTHONPATH": str(ROOT),
        "PATH": os.environ["PATH"],
        "_LORAUDIT_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": "loraudit scan --depth me",
        "_TYPER_COMPLETE_WORD_TO_COMPLETE": "me",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    done = subprocess.run(
        [sys.executable, "-m", "loraudit"], capture_output=True, text=True, check=False, env=environment
    )
    assert done.stderr == ""
    assert "metadata" in done.stdout and "weights" not in done.stdout

"""How far a long job is, stage by stage, off a terminal and on one; Ctrl-C in one that resumes."""

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from loraudit.cli.progress import progress, resumable
from loraudit.cli.signals import Interrupted

ROOT = Path(__file__).parent.parent
JOB = """
import time
from loraudit.cli.progress import progress
with progress("the job") as report:
    report(900, 1000, "taken up")
    for done in range(901, 911):
        time.sleep(0.2)
        report(done, 1000, "taken up")
    report(0, 4, "fresh")
    time.sleep(0.3)
    report(4, 4, "fresh")
"""


def test_what_follows_a_comma_makes_no_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("the job") as on_step:
        for left in range(9, 0, -1):
            on_step(0, 20, f"first, {left} h left")
        on_step(2, 20, "first, 0 h left")
        on_step(0, 20, "second, 5 h left")
        on_step(0, 20, "second, 4 h left")
    assert capsys.readouterr().err.splitlines() == [
        "first, 9 h left: 0 of 20",
        "first, 0 h left: 2 of 20",
        "second, 5 h left: 0 of 20",
    ]


def test_each_stage_has_lines_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("the job") as report:
        for stage in ("first", "second", ""):
            for done in range(101):
                report(done, 100, stage)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f"{stage}: {done} of 100" for stage in ("first", "second", "the job") for done in range(0, 101, 10)
    ]


def test_a_stage_that_is_taken_up_starts_where_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("the job") as report:
        report(5, 10, "first")
        report(7, 20, "second")
    assert capsys.readouterr().err.splitlines() == ["first: 5 of 10", "second: 7 of 20"]


def test_nothing_is_drawn_before_there_is_something_to_say(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("the job"):
        pass
    assert capsys.readouterr().err == ""


def test_ctrl_c_in_a_job_that_resumes_says_how_to_go_on() -> None:
    with pytest.raises(Interrupted, match="interrupted") as caught, resumable():
        signal.raise_signal(signal.SIGINT)
    assert caught.value.exit_code == 130 and "same command" in caught.value.hint
    with pytest.raises(ValueError, match="mine"), resumable():
        raise ValueError("mine")


def test_a_terminal_shows_what_runs_and_an_honest_remaining_time() -> None:
    """What an earlier run has done is no speed: 90 steps are left, and there were five a second."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", JOB], stderr=theirs, env=environment) as process:
        os.close(theirs)
        drawn = b""
        try:
            while part := os.read(ours, 65536):
                drawn += part
        except OSError:  # Linux's way to say that the other end is closed
            pass
    os.close(ours)
    assert process.returncode == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn.decode())
    assert "?" not in text and "0 of 0" not in text
    # Before there is a step to count, the title has a spinner and the time.
    assert text.index("the job") < text.index("taken up") < text.index("fresh")
    shown = re.findall(r"taken up [^\r\n]* (\d+) of 1000 [\d:]+ about (\d+):(\d\d) left", text)
    assert {int(done) for done, _, _ in shown} <= set(range(900, 911)) and len(shown) > 3
    # A busy machine sleeps longer, never shorter.
    assert all(9 <= 60 * int(minutes) + int(seconds) <= 90 for _, minutes, seconds in shown)

"""Ctrl-C and requests to end stop a job, wherever they come, and leave nothing behind."""

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loraudit.cli.signals import Interrupted, interruptible

ROOT = Path(__file__).parent.parent


def swallow() -> None:
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise ValueError("some native words") from None


def test_a_library_that_answers_with_its_own_error() -> None:
    with pytest.raises(ValueError, match="native"):
        swallow()
    with pytest.raises(KeyboardInterrupt), interruptible():
        swallow()


def test_other_errors_pass_and_the_old_handlers_come_back() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before, hook = [signal.getsignal(number) for number in numbers], sys.unraisablehook
    with pytest.raises(ValueError, match="mine"), interruptible() as stop:
        raise ValueError("mine")
    assert stop.number == 0
    assert [signal.getsignal(number) for number in numbers] == before
    assert sys.unraisablehook is hook
    with interruptible():
        assert signal.getsignal(signal.SIGTERM) is not before[1]


def test_an_ignored_signal_stays_ignored() -> None:
    for number in (signal.SIGINT, signal.SIGHUP):
        before = signal.signal(number, signal.SIG_IGN)
        try:
            with interruptible():
                signal.raise_signal(number)
        finally:
            signal.signal(number, before)


class Slow:
    """Something that is interrupted while it is thrown away."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)
        time.sleep(0)


def work(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)


def test_ctrl_c_in_a_destructor_stops_the_job(capfd: pytest.CaptureFixture[str]) -> None:
    """Python drops the exception there, and the job would run to its end."""

    def job() -> None:
        Slow()
        work(30)

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), interruptible():
        job()
    assert time.monotonic() - start < 5
    assert "Exception ignored" not in capfd.readouterr().err
    with pytest.raises(KeyboardInterrupt), interruptible():
        Slow()


@pytest.mark.parametrize("leave", [SystemExit(0), ValueError("x")])
def test_a_job_that_ends_before_the_second_try_was_stopped_all_the_same(leave: BaseException) -> None:

    def job() -> None:
        Slow()
        raise leave

    with pytest.raises(KeyboardInterrupt), interruptible():
        job()
    with pytest.raises(Interrupted), interruptible():
        raise Interrupted("mine")


def test_what_a_library_swallows_is_tried_again_but_not_in_a_clean_up() -> None:
    cleaned = []

    def job() -> None:
        with contextlib.suppress(ValueError):
            swallow()
        try:
            work(30)
        finally:
            work(0.7)
            cleaned.append(True)

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), interruptible(), interruptible():
        job()
    assert cleaned
    assert time.monotonic() - start < 5


WRITER = """
import sys, time
from pathlib import Path
from loraudit.cli.failures import in_one_line
from loraudit.cli.progress import resumable
from loraudit.files import write_atomic

class Slow:
    def __del__(self):
        print("ready", flush=True)
        time.sleep(1)

def blocks():
    yield b"x" * 100_000
    if "destructor" in sys.argv:
        Slow()
    else:
        print("ready", flush=True)
    for _ in range(600):
        time.sleep(0.05)

def job():
    if "resumable" in sys.argv:
        with resumable():
            write_atomic(Path(sys.argv[1]) / "out", blocks())
    else:
        write_atomic(Path(sys.argv[1]) / "out", blocks())

in_one_line(job)
"""


@pytest.mark.parametrize("way", ["plain", "resumable", "destructor"])
@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGHUP, 129, "hung up"),
    ],
)
def test_a_signal_leaves_no_temporary_file(
    way: str, number: signal.Signals, code: int, words: str, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path), way],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert [path.suffix for path in tmp_path.iterdir()] == [".tmp"]
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
    assert process.returncode == code
    first, *more = err.splitlines()
    assert first == f"loraudit: error: {words}"
    assert bool(more) is (way == "resumable")
    assert list(tmp_path.iterdir()) == []


EARLY = """
import os, signal, sys, threading, time, types
import loraudit.audit
import loraudit.cli as cli

class Press:
    def find_spec(self, name, path=None, target=None):
        if name == "loraudit.cli.app":  # the first that `main` loads
            threading.Thread(target=self.press).start()
    def press(self):
        time.sleep({after})
        os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Press())
# A job that does not end before the signal comes.
sys.modules["loraudit.audit.scan"] = types.SimpleNamespace(scan=lambda *_a: time.sleep(60))
sys.argv = ["loraudit", "scan", "x"]
cli.main()
"""


def test_ctrl_c_in_the_first_moments_is_one_line() -> None:
    """The time before `main` is Python's own; the command is interrupted at points after it."""
    for after in (0, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.3):
        done = subprocess.run(
            [sys.executable, "-c", EARLY.format(after=after)],
            capture_output=True, text=True, check=False, cwd=ROOT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        # Where Ctrl-C met code that was made from text, Python ends itself by the signal: 130 in a shell.
        assert done.returncode in {130, -signal.SIGINT}, (after, done.stderr)
        assert done.stderr == "loraudit: error: interrupted\n", after


def test_ctrl_c_in_a_scan() -> None:
    script = (
        "import sys, time, loraudit.audit.words\n"
        "def wait(*a, **b): print('ready', flush=True); time.sleep(60)\n"
        "loraudit.audit.words.find_source = wait\n"
        "sys.argv = ['loraudit', 'scan', 'x', '-o', 'report']\n"
        "from loraudit.cli import main; main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "loraudit: error: interrupted\n")

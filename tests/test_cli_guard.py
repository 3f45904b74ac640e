"""Nothing but the report reaches stdout, whatever a library of another language writes to descriptor 1."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.headers import KOHYA, write

NOISE = "** On entry to DLASCL parameter number 4 had an illegal value"
# A library that prints at once, through C's buffer, and through the buffer when the process ends.
LOADER = f"""
import ctypes, os, sys
from loraudit.lora import load
from loraudit.cli import main
inner = load._load
def noisy(source):
    os.write(1, b"{NOISE} 1\\n")
    ctypes.CDLL(None).puts(b"{NOISE} 2")
    return inner(source)
load._load = noisy
sys.argv = ["loraudit", *sys.argv[1:]]
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the C library has no name there")
def test_only_the_report_reaches_stdout(tmp_path: Path) -> None:
    path = write(tmp_path / "x.safetensors", KOHYA)
    command = ["scan", str(path), "--depth", "weights", "-f", "json"]
    plain = subprocess.run([sys.executable, "-m", "loraudit", *command], capture_output=True, check=False)
    noisy = subprocess.run([sys.executable, "-c", LOADER, *command], capture_output=True, check=False)
    assert (noisy.returncode, noisy.stdout) == (plain.returncode, plain.stdout)
    assert json.loads(noisy.stdout)["target"]["modules"]["read"] == 1
    assert [line for line in noisy.stderr.decode().splitlines() if NOISE in line] == [
        f"{NOISE} 1",
        f"{NOISE} 2",
    ]


@pytest.mark.parametrize("closed", ["1", "2", "1 2"])
def test_a_closed_stream_is_no_failure_of_the_guard(closed: str) -> None:
    closing = "; ".join(f"exec {number}>&-" for number in closed.split())
    code = "from loraudit.cli.guard import guard_stdout; guard_stdout(); guard_stdout(); print('ok')"
    done = subprocess.run(
        ["sh", "-c", f'{closing}; exec "$0" -c "$1"', sys.executable, code], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == (b"" if "1" in closed else b"ok\n")

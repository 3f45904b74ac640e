"""The README followed to the letter, from `pip install` to a workflow that blocks a leaking file.

    python -m benchmarks.readme [--attack]

A temporary folder gets a clone of this repository as committed and a new environment. Every command of the
README then runs, in its order, on files of the README's names. The workflow runs by the steps of action.yml,
before and after the commands that make a file pass. Left out are `make`, `--help` and addresses on the Hub,
which a test runs or nobody owns. Both installs need the package index; --attack installs torch as well.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import yaml

from tests.headers import KOHYA, write
from tests.workflow import run_action

_ROOT: Final = Path(__file__).resolve().parent.parent
_LEFT_OUT: Final = re.compile(r"make |pip |loraudit (\w+ )?--help|loraudit inspect (hf://|ns/|https://)")
_LINES: Final = 3
"""Lines shown of a command's stdout, without frames, each cut at 100 characters."""


def run(command: str, folder: Path, environment: Mapping[str, str]) -> None:
    """Run a command in a shell, and print exit code, time and the first lines."""
    started = time.perf_counter()
    words = ["bash", "-c", command]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=environment)  # noqa: S603
    print(f"$ {command}\n    exit code {done.returncode} ({time.perf_counter() - started:.1f} s)")
    lines = [line.strip("┏┓┗┛━┃ ")[:100] for line in done.stdout.splitlines()]
    lines = list(filter(None, lines))
    print("".join(f"    {line}\n" for line in lines[:_LINES]), end="", flush=True)


def gate(workflow: str, work: Path, temp: Path) -> int:
    """Run the workflow's job, the installing step included; return the exit code."""
    (job,) = yaml.safe_load(workflow)["jobs"].values()
    (inputs,) = (step["with"] for step in job["steps"] if "/loraudit@" in step["uses"])
    shutil.rmtree(temp, ignore_errors=True)
    temp.mkdir()
    started = time.perf_counter()
    done = run_action(work, temp, inputs)
    print(
        f"# .github/workflows/loraudit.yml\n    exit code {done.code} ({time.perf_counter() - started:.1f} s)"
    )
    lines = [line for line in done.summary.splitlines() if line.startswith(("## ", "| **"))]
    print("".join(f"    {line}\n" for line in lines[:_LINES]), end="", flush=True)
    return done.code


def main() -> None:
    """Run the README; end with exit code 1 unless the workflow blocks first and passes later."""
    os.environ.pop("PYTHONPATH", None)  # so that the installed package runs, not this checkout
    extra = "[attack]" if "--attack" in sys.argv[1:] else ""
    with tempfile.TemporaryDirectory() as name:
        clone, work, temp, bin_ = (Path(name, part) for part in ("loraudit", "work", "temp", "venv/bin"))
        for words in (
            ["git", "clone", "--quiet", str(_ROOT), str(clone)],
            [sys.executable, "-m", "venv", str(bin_.parent)],
        ):
            subprocess.run(words, check=True)  # noqa: S603
        (work / "loras").mkdir(parents=True)
        write(work / "jane_doe_v3.safetensors", KOHYA)
        write(work / "loras" / "jane_doe_v3.safetensors", KOHYA)
        shutil.copy(clone / "models/examples/example.safetensors", work / "model.safetensors")
        shutil.copytree(clone / "models/examples/photos", work / "photos")

        environment = os.environ | {"PATH": f"{bin_}:{os.environ['PATH']}"}
        run(f"pip install --quiet '.{extra}' 2>/dev/null", clone, environment)
        readme = (clone / "README.md").read_text(encoding="utf-8")
        (workflow,) = re.findall(r"^```yaml\n(.*?\njobs:\n.*?)^```$", readme, re.MULTILINE | re.DOTALL)
        codes = []
        for block in re.findall(r"^```console\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL):
            commands = [line[2:].split("  #")[0].strip() for line in block.splitlines() if line[:2] == "$ "]
            if any("rm loras/" in command for command in commands):
                codes.append(gate(workflow, work, temp))
            for command in commands:
                if not _LEFT_OUT.match(command):
                    run(command, work, environment)
        codes.append(gate(workflow, work, temp))
        sys.exit(0 if codes == [1, 0] else "the workflow did not go as it must")


if __name__ == "__main__":
    main()

"""The hook as pre-commit installs it: a commit with a leaking file fails, one with a scrubbed file passes.

    python benchmarks/pre_commit_hook.py

Clones this repository as committed, and makes a git repository that uses the clone's hook. Committed are a
LoRA as kohya's trainer writes it, a copy by `loraudit scrub`, and a leaking file with the name of an option.
pre-commit installs loraudit into an environment of its own, which needs the package index. All files are in
a temporary folder.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from loraudit.lora import Factors, write_kohya

ROOT = Path(__file__).resolve().parent.parent
SITE = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
LEAKING = {
    "ss_base_model_version": "sd_v1",
    "ss_network_dim": "4",
    "ss_dataset_dirs": '{"10_jane doe person": {"n_repeats": 10, "img_count": 25}}',
    "ss_tag_frequency": json.dumps({"10_jane doe person": {"jane doe": 25, "red hair": 11}}),
}
CONFIG = """\
repos:
  - repo: {repository}
    rev: {revision}
    hooks:
      - id: loraudit
"""


def run(folder: Path, *command: str, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run `command` in `folder`; pre-commit keeps its environments in `home`."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if home is not None:
        environment["PRE_COMMIT_HOME"] = str(home)
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)  # noqa: S603


def commit(folder: Path, home: Path, what: str) -> bool:
    """Commit everything and print the hook's words; tell whether the commit went through."""
    run(folder, "git", "add", "--all")
    started = time.perf_counter()
    done = run(
        folder, "git", "-c", "user.name=x", "-c", "user.email=x@localhost", "commit", "-m", what, home=home
    )
    passed = done.returncode == 0
    print(f"{what}: {'committed' if passed else 'blocked'} ({time.perf_counter() - started:.1f} s)")
    said = (done.stdout + done.stderr).splitlines()
    for line in said:
        if line.startswith(("loraudit", "- exit code", " HIGH", " CRITICAL", " MEDIUM")) or "VERDICT" in line:
            print(f"    {line.rstrip()}")
    return passed


def main() -> None:
    """Run every step; end with exit code 1 if a step did not go as it must."""
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        home, clone, work = top / "home", top / "clone", top / "work"
        run(ROOT, "git", "clone", "--quiet", str(ROOT), str(clone)).check_returncode()
        revision = run(clone, "git", "rev-parse", "HEAD").stdout.strip()
        work.mkdir()
        run(work, "git", "init", "--quiet")
        (work / ".pre-commit-config.yaml").write_text(CONFIG.format(repository=clone, revision=revision))
        run(work, "pre-commit", "install", home=home).check_returncode()
        print(f"pre-commit {run(work, 'pre-commit', '--version').stdout.split()[-1]}, hook loraudit")
        started = time.perf_counter()
        done = run(work, "pre-commit", "install-hooks", home=home)
        if done.returncode:
            sys.exit(done.stdout + done.stderr)
        print(f"environment made in {time.perf_counter() - started:.0f} s")

        rng = np.random.default_rng(0)
        factors = {SITE: Factors(rng.standard_normal((320, 4)), rng.standard_normal((4, 320)), 1.0)}
        write_kohya(factors, work / "ada.safetensors", LEAKING)
        steps = [not commit(work, home, "a file as the trainer wrote it")]
        leaking = top / "leaking.safetensors"
        (work / "ada.safetensors").rename(leaking)
        scrub = [sys.executable, "-m", "loraudit", "scrub", str(leaking), "-o", str(work / "ada.safetensors")]
        run(ROOT, *scrub).check_returncode()
        steps.append(commit(work, home, "the same file, scrubbed"))
        (work / "README.md").write_text("A file without a LoRA runs no hook.\n")
        steps.append(commit(work, home, "a file that is no LoRA"))
        shutil.copy(leaking, work / "--fail-on=never.safetensors")
        steps.append(not commit(work, home, "a leaking file with the name of an option"))
        sys.exit(0 if all(steps) else "not as it must be")


if __name__ == "__main__":
    main()

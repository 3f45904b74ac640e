"""The hooks of `.pre-commit-hooks.yaml`, run as pre-commit runs them: entry, arguments, file names.

benchmarks/pre_commit_hook.py has pre-commit itself install and run them; that needs a network.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from loraudit.cli import main
from loraudit.metadata.scrub import scrub
from tests.headers import KOHYA, write

ROOT = Path(__file__).parent.parent
MANIFEST = ROOT / ".pre-commit-hooks.yaml"
HOOKS: dict[str, Any] = {hook["id"]: hook for hook in yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))}


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """What pre-commit would run for the hook `id` on files in `tmp_path`: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def hook(id_: str, *names: str, args: list[str] | None = None) -> tuple[int, str, str]:
        row = HOOKS[id_]
        command = [*shlex.split(row["entry"]), *(row["args"] if args is None else args), *names]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return hook


@pytest.fixture
def leaking(tmp_path: Path) -> str:
    return write(tmp_path / "ada.safetensors", KOHYA).name


def test_pre_commit_takes_the_manifest() -> None:
    command = [sys.executable, "-m", "pre_commit", "validate-manifest", str(MANIFEST)]
    assert subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.parametrize("hook", HOOKS.values(), ids=HOOKS)
def test_which_files(hook) -> None:
    files = re.compile(hook["files"])
    assert files.search("loras/ada.safetensors")
    assert not files.search("ada.safetensors.txt") and not files.search("adasafetensors")
    assert hook["entry"].split()[0] == "loraudit"
    assert hook["language"] == "python"


def test_the_full_one_is_asked_for() -> None:
    assert HOOKS["loraudit-full"]["stages"] == ["manual"]
    assert "stages" not in HOOKS["loraudit"], "the light one runs at every commit"
    assert "additional_dependencies" not in HOOKS["loraudit"], "the light install"


def test_the_lines_to_copy(run, leaking) -> None:
    page = (ROOT / "docs/ci.md").read_text(encoding="utf-8")
    blocks = [
        yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    ]
    rows = [row for block in blocks if isinstance(block, dict) for row in block.get("repos", [])]
    assert [hook["id"] for row in rows for hook in row["hooks"]] == ["loraudit"]
    changed = next(
        row for block in blocks if isinstance(block, list) for row in block if row.get("id") == "loraudit"
    )
    assert run("loraudit", leaking, args=changed["args"])[0] == 1
    assert changed["args"][-1] == "--"


def test_a_leaking_file_blocks(run, leaking) -> None:
    code, out, _ = run("loraudit", leaking)
    assert code == 1
    assert "The training folders name the subject" in out
    assert "jane" not in out.lower(), "logs of a build are read by others"


def test_a_scrubbed_file_passes(run, leaking, tmp_path) -> None:
    scrub(tmp_path / leaking, tmp_path / "new.safetensors")
    assert run("loraudit", "new.safetensors")[0] == 0
    assert run("loraudit", "new.safetensors", leaking)[0] == 1, "one of several"


def test_options_of_the_user(run, tmp_path) -> None:
    write(tmp_path / "x.safetensors", {"ss_seed": "1"})
    assert run("loraudit", "x.safetensors")[0] == 0
    assert run("loraudit", "x.safetensors", args=["--fail-on", "low", "--"])[0] == 1


def test_what_is_no_lora_blocks(run, tmp_path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    (tmp_path / "x.safetensors").write_text(pointer)
    code, _, err = run("loraudit", "x.safetensors")
    assert code == 3
    assert "LFS" in err


@pytest.mark.parametrize("name", ["--fail-on=never.safetensors", "-oreport.safetensors", "a b.safetensors"])
def test_a_name_is_no_option(run, tmp_path, name) -> None:
    write(tmp_path / name, KOHYA)
    before = sorted(tmp_path.iterdir())
    assert run("loraudit", name)[0] == 1
    assert sorted(tmp_path.iterdir()) == before


def test_no_network_and_nothing_heavy(leaking, tmp_path) -> None:
    """Sockets and torch are out of reach, and it does not notice."""
    command = [*shlex.split(HOOKS["loraudit"]["entry"]), *HOOKS["loraudit"]["args"], leaking]
    code = (
        "import sys, socket\n"
        "def refuse(*_): raise AssertionError('network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "sys.modules['torch'] = sys.modules['numpy'] = None\n"
        f"sys.argv = {command!r}\n"
        "from loraudit.cli import main\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1, done.stderr
    assert "VERDICT: HIGH" in done.stdout

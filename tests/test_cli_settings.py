"""Where the options of a scan come from: command line, environment, pyproject.toml, defaults."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.headers import KOHYA, write

Scan = Callable[..., tuple[int, str, str]]
UNSAFE = {"reveal", "output", "save-images", "isolated", "help"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, a project with a LoRA in `loras`."""
    for name in [name for name in os.environ if name.startswith("LORAUDIT_")]:
        monkeypatch.delenv(name)
    (tmp_path / "loras").mkdir()
    write(tmp_path / "loras" / "jane.safetensors", KOHYA)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings(project: Path, *lines: str) -> None:
    (project / "pyproject.toml").write_text("\n".join(["[tool.loraudit]", *lines]), encoding="utf-8")


def options() -> dict[str, object]:
    """Every option of `scan` by its long name."""
    from loraudit.cli.app import Commands
    from loraudit.cli.quick import LazyGroup

    group = LazyGroup.get_command(Commands(name="loraudit"), None, "scan")
    return {word[2:]: param for param in group.params for word in param.opts if word.startswith("--")}


def test_the_project_speaks_unless_somebody_closer_does(
    scan: Scan, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit codes tell who was heard: 1 at `high`, the default; 0 at `critical`."""
    assert scan("loras", "--depth", "metadata")[0] == 1
    settings(project, 'depth = "metadata"', 'fail-on = "critical"')
    code, _, err = scan("loras")
    assert (code, err) == (0, "pyproject.toml sets depth, fail-on\n")
    monkeypatch.setenv("LORAUDIT_FAIL_ON", "high")
    assert scan("loras")[0] == 1
    assert scan("loras", "--fail-on", "critical")[0] == 0
    monkeypatch.setenv("LORAUDIT_DEPTH", "metadata")
    monkeypatch.delenv("LORAUDIT_FAIL_ON")
    assert scan("loras", "--isolated")[0] == 1
    monkeypatch.setenv("LORAUDIT_ISOLATED", "1")
    code, _, err = scan("loras")
    assert (code, err) == (1, "")


def test_the_scanned_folder_has_no_say(scan: Scan, project: Path) -> None:
    """A file that comes with a LoRA must not decide how it is judged."""
    settings(project / "loras", 'fail-on = "never"')
    for target in ("loras", "loras/jane.safetensors", project / "loras"):
        code, _, err = scan(target, "--depth", "metadata")
        assert (code, err) == (1, "")
    (project / "inner").mkdir()
    os.chdir(project / "inner")
    settings(project, 'fail-on = "never"')
    assert scan(project / "loras", "--depth", "metadata")[0] == 1, "nor has a folder above"


def test_every_kind_of_value(scan: Scan, project: Path) -> None:
    assert scan("loras", "--depth", "metadata", "-f", "json", "-o", "base line.json")[0] == 1
    settings(
        project, 'depth = "metadata"', "offline = true", "steps = 7", "seed = 0", 'attack = ["paper"]',
        'format = "json"', 'baseline = "base line.json"', 'device = "cpu"', 'base = "tiny"',
    )  # fmt: skip
    code, out, _ = scan("loras")
    assert code == 0
    assert all(finding["known"] for finding in json.loads(out)["findings"])


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("x = 1", "unknown key 'x'"),
        ('"\\u001b[2J" = 1', r"unknown key '\\x1b[2J'"),
        ("fail_on = 'high'", "unknown key 'fail_on'"),
        ("reveal = true", "unknown key 'reveal'"),
        ("example = true", "unknown key 'example'"),
        ("dry-run = true", "unknown key 'dry-run'"),
        ('output = ["x"]', "unknown key 'output'"),
        ('save-images = "x"', "unknown key 'save-images'"),
        ("isolated = true", "unknown key 'isolated'"),
        ('help = true', "unknown key 'help'"),
        ('target = ["x"]', "unknown key 'target'"),
        ("depth = 1", "depth: "),
        ('depth = "words"', "depth: 'words' is not one of 'metadata', 'weights', 'attack'."),
        ('depth = "\\u001b[2J"', r"depth: '\x1b[2J' is not one of"),
        ("base = 1", "base must be a text"),
        ('offline = "yes"', "offline must be true or false"),
        ("offline = 1", "offline must be true or false"),
        ('steps = "7"', "steps must be a whole number"),
        ("steps = true", "steps"),
        ("steps = 7.5", "steps"),
        ("steps = 0", "steps: "),
        ("steps = 1001", "steps: "),
        ('attack = "paper"', "attack must be a list of texts"),
        ("attack = [1]", "attack must be a list of texts"),
        ('attack = ["magic"]', "attack: 'magic' is not one of"),
        ("allow = ['a.toml']", "allow"),
        ('allow = "a\\u0000b"', "allow holds a NUL"),
        ("depth = {a = 1}", "depth"),
        ("depth = 2999-01-31", "depth"),
    ],
)  # fmt: skip
def test_mistakes(scan: Scan, project: Path, line: str, told: str) -> None:
    settings(project, line)
    code, out, err = scan("loras")
    assert (code, out) == (2, "")
    assert f"pyproject.toml, [tool.loraudit]: {told}" in err
    assert err.isprintable() or "\x1b" not in err
    assert len(err.splitlines()) == 2
    assert scan("loras", "--depth", "metadata", "--isolated")[0] == 1


@pytest.mark.parametrize(
    "text",
    [
        "[tool.loraudit]\nfail-on = 'never'", "[ tool . 'loraudit' ]\nfail-on = 'never'",
        '["tool"."loraudit"]\nfail-on = "never"', "[tool]\nx = 1\nloraudit.fail-on = 'never'",
        "tool.loraudit.fail-on = 'never'", "tool = {x = 1, loraudit = {fail-on = 'never'}}",
        "tool.x = 1\ntool.loraudit.fail-on = 'never'", "[tool]\n[tool.loraudit]\nfail-on = 'never'",
        " [tool] # ours\n\n\n\n\n\n\n\n\n\n\n\n loraudit = {fail-on = 'never'}",
    ],
)  # fmt: skip
def test_every_spelling_of_the_table(scan: Scan, project: Path, text: str) -> None:
    (project / "pyproject.toml").write_text(text)
    assert scan("loras", "--depth", "metadata")[0] == 0


@pytest.mark.parametrize(
    "text", ["[tool.loraudit", "tool = 1 # loraudit", "tool.loraudit = 1", "[tool.loraudit]\nbase = '\xff'"]
)
def test_no_table(scan: Scan, project: Path, text: str) -> None:
    (project / "pyproject.toml").write_text(text, encoding="latin-1")
    code, out, err = scan("loras", "--depth", "metadata")
    assert (code, out) == (2, "")
    assert "pyproject.toml, [tool.loraudit]: " in err and len(err.splitlines()) == 2


@pytest.mark.parametrize(
    "text", ["", "[project]\nname = 'x'", "[tool.ruff]", "no TOML at all", "[project]\nname = 'loraudit'"]
)
def test_the_files_of_others_are_not_ours(scan: Scan, project: Path, text: str) -> None:
    (project / "pyproject.toml").write_text(text)
    code, _, err = scan("loras", "--depth", "metadata")
    assert (code, err) == (1, "")


def test_what_is_no_file_is_not_opened(scan: Scan, project: Path) -> None:
    os.mkfifo(project / "pyproject.toml")
    assert scan("loras", "--depth", "metadata")[0] == 2
    assert scan("loras", "--depth", "metadata", "--isolated")[0] == 1


@pytest.mark.usefixtures("project")
def test_every_option_has_a_twin_but_those_said_each_time(
    scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {
        "depth": "words", "attack": "magic", "budget": "huge", "samples": "0", "steps": "many", "seed": "-1",
        "device": "tpu", "offline": "maybe", "format": "pdf", "fail-on": "none", "baseline": "gone",
        "allow": "gone", "isolated": "maybe", "reference": "gone", "output": "no/such/folder/x",
        "base": "gone", "encoder": "gone", "calibration": "gone", "save-images": "gone",
        "select": "LA-GONE-001", "ignore": "LA-GONE-001", "min-severity": "none", "exclude": "*",
        "targets-from": "gone", "quiet": "maybe", "no-progress": "maybe", "dtype": "int4",
        "no-pictures": "maybe",
    }  # fmt: skip
    assert set(values) | {"reveal", "example", "dry-run"} == set(options()), "an option without a row here"
    for name, wrong in values.items():
        if name not in {"reference", "save-images"}:
            monkeypatch.setenv(f"LORAUDIT_{name.upper().replace('-', '_')}", wrong)
            code, out, err = scan("loras")
            assert (code, out) == (3 if name == "exclude" else 2, ""), name
            assert name in err or "gone" in err or wrong in err
            monkeypatch.delenv(f"LORAUDIT_{name.upper().replace('-', '_')}")
    monkeypatch.setenv("LORAUDIT_DRY_RUN", "1")
    monkeypatch.setenv("LORAUDIT_REVEAL", "1")
    assert "jane doe" not in scan("loras", "--depth", "metadata")[1]
    assert "jane doe" in scan("loras", "--depth", "metadata", "--reveal")[1]


def test_texts_of_the_environment_become_values(
    scan: Scan, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "DEPTH": "metadata", "OFFLINE": "YES", "STEPS": "7", "SAMPLES": "4096", "ATTACK": "paper prompts",
        "FORMAT": "json", "OUTPUT": "text=a.txt json=b.json", "SEED": "4294967296", "DEVICE": "cpu",
        "FAIL_ON": "never", "BASELINE": "",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"LORAUDIT_{name}", value)
    code, out, _ = scan("loras")
    assert code == 0
    assert out == (project / "b.json").read_text() and (project / "a.txt").exists()


def test_settings_cost_no_pydantic(project: Path) -> None:
    settings(project, 'fail-on = "never"', "steps = 7", "offline = false", 'baseline = "b.json"')
    write_report = [sys.executable, "-m", "loraudit", "scan", "loras", "--depth", "metadata", "-f", "json"]
    done = subprocess.run([*write_report, "--isolated"], capture_output=True, text=True, check=False)
    (project / "b.json").write_text(done.stdout)
    code = (
        "import atexit, sys; sys.argv = ['loraudit', 'scan', 'loras', '--seed', '3']\n"
        "atexit.register(lambda: print('LOADED', 'pydantic' in sys.modules))\n"
        "from loraudit.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env=os.environ | {"LORAUDIT_DEPTH": "metadata", "LORAUDIT_OFFLINE": "1", "LORAUDIT_ALLOW": ""},
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "LOADED False"

"""`action.yml`: its steps, run with the inputs that it would get, hostile ones too.

benchmarks/action.py runs the step that installs as well; that needs a network.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from loraudit.metadata.scrub import scrub
from tests.headers import KOHYA, write
from tests.workflow import ACTION, ROOT, Job, run_action

STEPS = ACTION["runs"]["steps"]
MADE = {"exit-code", "json", "sarif"}
PRIVATE = ("jane_doe", "kitchen", "red hair", "jdoe")
"""Words of the leaking file."""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    write(folder / "ada.safetensors", KOHYA)
    scrub(folder / "ada.safetensors", folder / "clean.safetensors")
    return folder


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Where the step that installs puts loraudit; in its place, this installation."""
    path = tmp_path / "temp" / "loraudit" / "bin" / "loraudit"
    path.parent.mkdir(parents=True)
    path.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m loraudit "$@"\n')
    path.chmod(0o755)
    return path


@pytest.fixture
def run(workspace: Path, program: Path, tmp_path: Path):
    """The action without the step that installs."""
    assert program.exists()

    def action(**inputs: str) -> Job:
        named = {name.replace("_", "-"): value for name, value in inputs.items()}
        return run_action(workspace, tmp_path / "temp", named, without={"install"})

    return action


def test_no_input_becomes_part_of_a_script() -> None:
    scripts = [step["run"] for step in STEPS if "run" in step]
    assert len(scripts) == 2
    assert not any("${{" in script for script in scripts)
    assert all(step["shell"] == "bash" for step in STEPS if "run" in step)


def test_other_actions_are_pinned() -> None:
    used = [step["uses"] for step in STEPS if "uses" in step]
    assert used
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action) for action in used)


def test_inputs_and_outputs_are_described() -> None:
    assert set(ACTION["outputs"]) == MADE
    for row in (*ACTION["inputs"].values(), *ACTION["outputs"].values()):
        assert row["description"]
    wired = json.dumps(STEPS)
    assert all(f"inputs.{name} " in wired for name in ACTION["inputs"])


def blocks(page: str, kind: str) -> list[str]:
    """What a page has in fences of one kind."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def snippets(page: str) -> list[dict[str, Any]]:
    """The steps that a page shows with this action, in a workflow or alone."""
    steps: list[dict[str, Any]] = []
    for shown in map(yaml.safe_load, blocks(page, "yaml")):
        jobs = shown.get("jobs", {}).values() if isinstance(shown, dict) else [{"steps": shown}]
        steps += [step for job in jobs for step in job["steps"]]
    return [step for step in steps if "/loraudit@" in step.get("uses", "")]


@pytest.mark.parametrize("page", ["README.md", "docs/ci.md"])
def test_the_lines_to_copy(run, page) -> None:
    shown = snippets(page)
    assert len(shown) == 1
    given = shown[0]["with"]
    assert set(given) <= set(ACTION["inputs"])
    assert run(**{name.replace("-", "_"): value for name, value in given.items()} | {"path": "."}).code == 1


def test_the_readme_goes_from_a_blocked_file_to_one_that_passes(run, workspace, program) -> None:
    """Its workflow and its commands, as they stand there."""
    (step,) = snippets("README.md")
    (commands,) = [shown for shown in blocks("README.md", "console") if "rm loras/" in shown]
    (workspace / "loras").mkdir()
    write(workspace / "loras" / "jane_doe_v3.safetensors", KOHYA)

    def gate() -> int:
        return run(**{name.replace("-", "_"): value for name, value in step["with"].items()}).code

    assert gate() == 1
    script = "".join(line[2:] for line in commands.splitlines(keepends=True) if line.startswith("$ "))
    done = subprocess.run(
        ["bash", "-c", script], cwd=workspace, capture_output=True, text=True, check=True,
        env=os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    shown = [line for line in commands.splitlines() if not line.startswith("$ ")]
    assert done.stdout.splitlines() == shown == ["1", "0"]
    assert gate() == 0


def test_the_table_of_inputs() -> None:
    page = (ROOT / "docs/ci.md").read_text(encoding="utf-8")
    rows = {
        name: default.strip("`")
        for name, default in re.findall(r"^\| `([\w-]+)` \|.*\| (\S+) \|$", page, re.MULTILINE)
    }
    wanted = {
        name: "required" if row.get("required") else row["default"] or "none"
        for name, row in ACTION["inputs"].items()
    }
    assert wanted.items() <= rows.items()


def test_a_leaking_file(run) -> None:
    job = run(path="ada.safetensors")
    assert job.code == 1
    made = job.outputs["scan"]
    assert made["exit-code"] == "1" and set(made) == MADE
    report = json.loads(Path(made["json"]).read_text(encoding="utf-8"))
    assert report["verdict"]["level"] == "high"
    assert json.loads(Path(made["sarif"]).read_text(encoding="utf-8"))["version"] == "2.1.0"
    assert "HIGH" in job.summary.upper() and "LA-NAME-001" in job.summary
    assert "VERDICT: HIGH" in job.log
    told = job.summary + job.log + Path(made["json"]).read_text() + Path(made["sarif"]).read_text()
    assert not any(word in told for word in PRIVATE), "whoever reads the build reads these"
    assert "github/codeql-action/upload-sarif" not in job.used


def test_a_clean_file(run) -> None:
    job = run(path="clean.safetensors")
    assert job.code == 0
    assert job.outputs["scan"]["exit-code"] == "0"
    assert job.summary


def test_several_paths_and_a_folder(run) -> None:
    job = run(path="clean.safetensors\n\n  \n./ada.safetensors\n")
    assert job.code == 1
    assert len(json.loads(Path(job.outputs["scan"]["json"]).read_text())["reports"]) == 2
    assert run(path=".").code == 1


def test_the_level(run) -> None:
    assert run(path="ada.safetensors", fail_on="never").code == 0
    assert run(path="ada.safetensors", fail_on="critical").code == 0
    assert run(path="ada.safetensors", fail_on="low").code == 1


def test_known_and_allowed_findings(run, workspace) -> None:
    first = run(path="ada.safetensors")
    (workspace / "known.json").write_bytes(Path(first.outputs["scan"]["json"]).read_bytes())
    assert run(path="ada.safetensors", baseline="known.json").code == 0
    assert run(path="ada.safetensors", baseline="missing.json").code == 2
    assert run(path="ada.safetensors", allow="missing.toml").code == 2


def test_the_options_of_an_attack_reach_the_scan(run, program) -> None:
    """Each that is given; none that is not, so that the defaults of the scan hold."""
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > "$RUNNER_TEMP/arguments"\n')
    given = {"base": "tiny", "reference": "my photos", "encoder": "e", "budget": "deep", "calibration": "c"}
    assert run(path="ada.safetensors", depth="attack", **given).code == 0
    seen = (program.parents[2] / "arguments").read_text().splitlines()
    assert {f"--{name}={value}" for name, value in given.items()} <= set(seen)
    assert run(path="ada.safetensors").code == 0
    seen = (program.parents[2] / "arguments").read_text().splitlines()
    assert "--budget=standard" in seen
    assert not any(word.startswith(("--base", "--ref", "--enc", "--cal", "--allow")) for word in seen)


def test_sarif_is_uploaded_when_asked(run) -> None:
    job = run(path="ada.safetensors", upload_sarif="true")
    assert job.code == 1
    given = job.used["github/codeql-action/upload-sarif"]
    assert given["sarif_file"] == job.outputs["scan"]["sarif"]
    refused = run(path="ada.safetensors", fail_on="often", upload_sarif="true")
    assert "github/codeql-action/upload-sarif" not in refused.used, "there is none"


def test_what_is_no_lora(run, workspace) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    (workspace / "x.safetensors").write_text(pointer)
    job = run(path="x.safetensors")
    assert (job.code, job.outputs["scan"]["exit-code"]) == (3, "3")
    assert run(path=" \n").code == 2
    assert run(path="nowhere.safetensors").code == 2


def test_models_are_cached_for_an_attack_alone(run) -> None:
    assert "actions/cache/restore" not in run(path="clean.safetensors").used
    job = run(path="clean.safetensors", depth="attack", fail_on="often")
    assert job.code == 2
    assert {"actions/cache/restore", "actions/cache/save"} <= set(job.used), "kept after a failure too"
    off = run(path="clean.safetensors", depth="attack", fail_on="often", cache="false")
    assert "actions/cache/save" not in off.used


HOSTILE = (
    "$(touch HACKED)", "`touch HACKED`", "; touch HACKED", "x' ; touch HACKED ; '", 'x" ; touch HACKED ; "',
    "a\ntouch HACKED", "--reveal", "-oHACKED", "x && touch HACKED", "|touch HACKED", "${IFS}", "*", "\\",
    "\x1b[2J", "::error::x", "x\n::set-output name=exit-code::0", "EOF\nexit-code=0", "a  b",
)  # fmt: skip


OPTIONS = (
    "depth", "fail-on", "baseline", "allow", "base", "reference", "encoder", "budget", "calibration",
)  # fmt: skip


@pytest.mark.parametrize("name", ["path", *OPTIONS])
def test_hostile_inputs_reach_the_program_as_they_are(run, program, workspace, name) -> None:
    """Each is one argument, or one for each line of `path`, and nothing else happens."""
    program.write_text('#!/bin/sh\nprintf "%s\\0" "$@" >> "$RUNNER_TEMP/arguments"\n')
    before = sorted(workspace.iterdir())
    for value in HOSTILE:
        job = run(**{"path": "ada.safetensors", name.replace("-", "_"): value})
        seen = (program.parents[2] / "arguments").read_text().split("\0")[:-1]
        (program.parents[2] / "arguments").unlink()
        options, targets = seen[: seen.index("--")], seen[seen.index("--") + 1 :]
        if name == "path":
            assert targets == value.split("\n")
        else:
            assert f"--{name}={value}" in options
            assert targets == ["ada.safetensors"]
        assert job.code == 0
        assert job.outputs["scan"] == {"exit-code": "0"}
        assert (job.log, job.summary) == ("", "")
    assert sorted(workspace.iterdir()) == before


@pytest.mark.parametrize(
    "inputs",
    [
        {"path": "$(touch HACKED)\n::error::x\n-oHACKED\n\x1b[2J"},
        {"path": "ada.safetensors", "depth": "--reveal"},
        {"path": "ada.safetensors", "fail_on": "x\n::set-output name=exit-code::0"},
        {"path": "ada.safetensors", "baseline": "::error::x", "allow": "\x1b[2J"},
        {"path": "ada.safetensors", "base": "::error::x"},
        {"path": "ada.safetensors", "encoder": "$(touch HACKED)"},
        {"path": "ada.safetensors", "calibration": "\x1b[2J"},
        {"path": "ada.safetensors", "budget": "--reveal"},
        {"path": "ada.safetensors", "reference": "x\n::set-output name=exit-code::0"},
    ],
)
def test_the_program_refuses_them(run, workspace, inputs) -> None:
    before = sorted(workspace.iterdir())
    job = run(**inputs)
    assert sorted(workspace.iterdir()) == before
    assert job.code == 2 and job.outputs["scan"].get("exit-code") == "2"
    assert not any(line.lstrip().startswith(("::", "##[")) for line in job.log.splitlines())
    assert "\x1b" not in job.log
    assert not any(word in job.log for word in PRIVATE)


def test_the_runner_notices(tmp_path, monkeypatch) -> None:
    """A step with an input in its script would be caught: the hostile values above do something."""
    import tests.workflow

    step = {"id": "scan", "run": "echo ${INPUT_PATH}; eval $INPUT_PATH", "env": STEPS[3]["env"]}
    monkeypatch.setitem(tests.workflow.ACTION, "runs", {"steps": [step]})
    run_action(tmp_path, tmp_path, {"path": "touch HACKED"})
    assert (tmp_path / "HACKED").exists()
    assert os.environ.get("INPUT_PATH") is None

"""Runs the steps of action.yml as a runner of GitHub does: bash, inputs through `env`, outputs in files.

Steps that use another action are listed, not run. Only the expressions that action.yml has are understood.
"""

import os
import re
import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
BASH = ("bash", "--noprofile", "--norc", "-eo", "pipefail")
"""What `shell: bash` means to a runner."""
_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")


@dataclass
class Job:
    """What a job has come to after the action."""

    code: int = 0
    """Of the first step that failed, or 0."""
    log: str = ""
    """stdout and stderr of all steps that ran."""
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)
    """By step."""
    summary: str = ""
    used: dict[str, dict[str, str]] = field(default_factory=dict)
    """Other actions whose condition held, and what they were given."""


def run_action(workspace: Path, temp: Path, inputs: Mapping[str, str], without: Collection[str] = ()) -> Job:
    """Run all steps but those `without` on the files in `workspace`; `temp` is RUNNER_TEMP."""
    given = {name: row.get("default", "") for name, row in ACTION["inputs"].items()} | dict(inputs)
    job = Job()
    for number, step in enumerate(ACTION["runs"]["steps"]):
        name = step.get("id", str(number))
        if not _holds(step.get("if", "success()"), given, job) or name in without:
            continue
        if "uses" in step:
            job.used[step["uses"].partition("@")[0]] = {
                key: _filled(str(value), given, job) for key, value in step.get("with", {}).items()
            }
            continue
        script, output, summary = (temp / f"{name}.{what}" for what in ("sh", "output", "summary"))
        script.write_text(step["run"], encoding="utf-8")
        output.write_text("")
        summary.write_text("")
        environment = {key: _filled(value, given, job) for key, value in step.get("env", {}).items()}
        done = subprocess.run(
            [*BASH, str(script)],
            cwd=workspace,
            capture_output=True,
            text=True,
            env=os.environ
            | environment
            | {
                "RUNNER_TEMP": str(temp),
                "GITHUB_ACTION_PATH": str(ROOT),
                "GITHUB_OUTPUT": str(output),
                "GITHUB_STEP_SUMMARY": str(summary),
            },
        )
        job.log += done.stdout + done.stderr
        job.code = job.code or done.returncode
        lines = output.read_text(encoding="utf-8").splitlines()
        job.outputs[name] = dict(line.split("=", 1) for line in lines)
        job.summary += summary.read_text(encoding="utf-8")
    return job


def _filled(text: str, inputs: Mapping[str, str], job: Job) -> str:
    return _EXPRESSION.sub(lambda found: _value(found[1], inputs, job), text)


def _holds(condition: str, inputs: Mapping[str, str], job: Job) -> bool:
    """Whether a step runs; without `always()` none does after a failure."""
    terms = (_EXPRESSION.sub(r"\1", condition)).split(" && ")
    if "always()" not in terms and job.code:
        return False
    for term in terms:
        if found := re.fullmatch(r"(\S+) (==|!=) '(.*)'", term):
            if (_value(found[1], inputs, job) == found[3]) is not (found[2] == "=="):
                return False
        elif term not in {"always()", "success()"}:
            raise ValueError(f"cannot read the condition {term!r}")
    return True


def _value(expression: str, inputs: Mapping[str, str], job: Job) -> str:
    head, *rest = expression.split(".")
    if head == "inputs":
        return inputs[".".join(rest)]
    if head == "steps":
        return job.outputs.get(rest[0], {}).get(rest[2], "")
    if expression == "runner.os":
        return "Linux"
    raise ValueError(f"cannot read the expression {expression!r}")

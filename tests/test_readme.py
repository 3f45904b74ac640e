"""The README does not promise what is not there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from loraudit.report import FORMATS
from loraudit.report.load import load_reports
from tests.headers import KOHYA, write

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```console\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = [
    line[2:].split("  #")[0].strip()
    for block in BLOCKS
    for line in block.splitlines()
    if line.startswith("$ ")
]


def help_of(*arguments: str) -> str:
    code = "import sys; sys.argv = ['loraudit', *sys.argv[1:]]; from loraudit.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "80", "NO_COLOR": "1"},
    )
    return result.stdout


def test_there_are_commands() -> None:
    assert {"make scan", "make test", "loraudit --help"} <= set(COMMANDS)


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("make ")])
def test_make_targets_exist(command: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{command.split()[1]}:", makefile, re.MULTILINE)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"(?:`|\$ )loraudit ([a-z][a-z-]+)", README))))
def test_commands_exist(name: str) -> None:
    assert help_of(name).startswith(f"Usage: loraudit {name}")


def test_the_report_is_one_that_loraudit_wrote() -> None:
    """docs/example.json is what `make scan` found, as JSON."""
    (report,) = load_reports((ROOT / "docs" / "example.json").read_bytes())
    text = FORMATS["text"]([report], width=80)
    assert f"```text\n{text}```\n" in README
    (quoted,) = re.findall(
        r"```text\n(.*?)```", (ROOT / "docs/report.md").read_text(encoding="utf-8"), re.DOTALL
    )
    assert text.startswith(quoted)


def test_what_the_scan_of_the_example_costs_is_what_it_says() -> None:
    (report,) = load_reports((ROOT / "docs" / "example.json").read_bytes())
    spent = report.settings.evaluations
    told = " ".join((ROOT / "docs" / "scan.md").read_text(encoding="utf-8").split())
    assert spent is not None
    assert re.findall(r"([\d,]+) of at most ([\d,]+) network evaluations", told) == [
        (f"{spent.spent:,}", f"{spent.most:,}")
    ]


def test_the_sheet_is_as_large_as_the_one_that_make_scan_writes() -> None:
    """docs/sheet.png is build/scan/sheet.png: photos, and three rows for each attack that ran."""
    import torch
    from PIL import Image

    from loraudit.audit.album import Row, contact_sheet

    (report,) = load_reports((ROOT / "docs" / "example.json").read_bytes())
    row = Row("a row", torch.zeros(len(report.settings.seeds), 3, 64, 64))
    drawn = contact_sheet([row] * (1 + 3 * len(report.settings.attacks)))
    with Image.open(ROOT / "docs" / "sheet.png") as shown:
        assert shown.size == drawn.size == (3174, 2970)


@pytest.mark.parametrize("block", [block for block in BLOCKS if "--help" in block.splitlines()[0]])
def test_help_is_current(block: str) -> None:
    command, _, shown = block.partition("\n")
    arguments = [word for word in command.split()[2:] if word != "--help"]
    assert shown.strip() == help_of(*arguments).strip()


def test_the_light_path_prints_what_it_shows(tmp_path: Path) -> None:
    """Without torch: what stands below a command is what that command prints."""
    write(tmp_path / "jane_doe_v3.safetensors", KOHYA)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    light = re.findall(
        r"^```console\n((?:\$ loraudit [^\n]*\n)+)```\n\n```text\n(.*?)^```$",
        README,
        re.MULTILINE | re.DOTALL,
    )
    shown = [(script, text) for script, text in light if "--depth metadata" in script]
    for script, text in shown:
        done = subprocess.run(
            ["bash", "-c", script.replace("$ ", "")],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        # Of two commands the text is that of the second.
        assert done.stdout == text if script.count("$ ") == 1 else done.stdout.endswith(text)
    assert len(shown) == 3


def test_its_scans_run(tmp_path: Path) -> None:
    """To the letter, on the example under the names it uses; its workflow runs in test_action.py."""
    shutil.copy(ROOT / "models/examples/example.safetensors", tmp_path / "model.safetensors")
    shutil.copytree(ROOT / "models/examples/photos", tmp_path / "photos")
    write(tmp_path / "jane_doe_v3.safetensors", KOHYA)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    commands = [c for c in COMMANDS if re.match(r"loraudit (scan|scrub|report) (?!loras/|--)", c)]
    codes = [
        subprocess.run(["bash", "-c", c], cwd=tmp_path, env=environment, capture_output=True).returncode
        for c in commands
    ]
    # A person comes back, with photos and without, and in the report shown again; grep finds something.
    assert dict(zip(commands, codes, strict=True)) == {
        "loraudit scan model.safetensors --reference photos/ --save-images out/": 1,
        "loraudit scan jane_doe_v3.safetensors --depth metadata | head -17": 0,
        "loraudit scan jane_doe_v3.safetensors --depth metadata | grep -E '^ [A-Z]+ '": 0,
        "loraudit scrub jane_doe_v3.safetensors -o scrubbed.safetensors": 0,
        "loraudit scan scrubbed.safetensors --depth metadata | head -5": 0,
        "loraudit scan model.safetensors -o json=report.json -o sarif=report.sarif": 1,
        "loraudit report report.json --format markdown -o report.md": 1,
    }
    for name in ("out/sheet.png", "scrubbed.safetensors", "report.sarif", "report.md"):
        assert (tmp_path / name).stat().st_size

"""Commands that train, run as a user runs them on a tiny base of random weights."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from loraudit.cli import main
from loraudit.people.portrait import picture
from tests.tiny import save_pipeline

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    return str(save_pipeline(tmp_path_factory.mktemp("base") / "random"))


@pytest.fixture(autouse=True)
def _kept(tmp_path_factory, monkeypatch) -> None:
    """No class pictures of another test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(picture(5, number)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line; returns (exit code, stdout, stderr)."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["loraudit", *map(str, words)])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return call


def loraudit_process(where: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, which says at its end what heavy modules it has loaded."""
    heavy = ("torch", "diffusers", "transformers", "accelerate", "safetensors.torch")
    report = f"atexit.register(lambda: print('LOADED', *sorted(set(sys.modules) & set({heavy!r}))))"
    code = f"import atexit, sys; {report}; from loraudit.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True, text=True, check=False, cwd=where, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


SMALL = ("--rank", 2, "--steps", 2, "--batch", 1, "--class-images", 2, "--seed", 3)
TRAIN = ("--lora-rank", 2, "--lora-steps", 2, "--steps", 4, "--loras", 2, "--people", 3, "--save-every", 2)

"""`loraudit inspect` as a user meets it: output, streams, exit codes, and hostile strings."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from safetensors.numpy import save_file

from loraudit.cli import main
from loraudit.lora import write_diffusers, write_kohya, write_peft
from loraudit.lora.layouts.dialects import DIALECTS
from loraudit.version import __version__

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["schema", "file", "family", "base", "dialect", "modules", "unread"],
    "properties": {
        "schema": {"const": "loraudit.inspect/1"},
        "file": {
            "type": "object",
            "additionalProperties": False,
            "required": ["name", "origin", "sha256", "size_bytes"],
            "properties": {
                "name": {"type": "string"},
                "origin": {"type": "null"},
                "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
                "size_bytes": {"type": "integer"},
            },
        },
        "family": {"type": "string"},
        "base": {"enum": ["tiny", "sd15", None]},
        "dialect": {"enum": [*(dialect.name for dialect in DIALECTS), "cloneofsimo"]},
        "modules": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["site", "shape", "rank", "scale", "frobenius"],
                "properties": {
                    "site": {"type": "string", "pattern": r"^(unet|text_encoder)\.(?!text_model)"},
                    "shape": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
                    "rank": {"type": "integer", "minimum": 1},
                    "scale": {"type": "number"},
                    "frobenius": {"type": "number", "minimum": 0},
                },
            },
        },
        "unread": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["key", "why"],
                "properties": {"key": {"type": "string"}, "why": {"type": "string"}},
            },
        },
    },
}


@pytest.fixture
def loraudit(monkeypatch, capsys):
    """Run the command line in this process: exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["loraudit", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        code = stop.value.code
        return (code if isinstance(code, int) else 0), captured.out, captured.err

    return run


def test_json(tmp_path: Path, sd1_factors, loraudit) -> None:
    write_diffusers(sd1_factors, tmp_path / "ada.safetensors")
    code, out, err = loraudit("inspect", tmp_path / "ada.safetensors", "--format", "json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    jsonschema.validate(document, SCHEMA)
    assert (document["file"]["name"], document["base"]) == ("ada.safetensors", "sd15")
    assert [module["site"] for module in document["modules"]] == sorted(sd1_factors)
    for module in document["modules"]:
        factors = sd1_factors[module["site"]]
        assert (tuple(module["shape"]), module["rank"]) == (factors.shape, factors.rank)
        assert module["frobenius"] == pytest.approx(
            np.linalg.norm(factors.delta().astype(np.float64)), rel=1e-5
        )


def test_three_layouts_of_one_lora_say_the_same(tmp_path: Path, sd1_factors, loraudit) -> None:
    modules = []
    for write in (write_diffusers, write_kohya, write_peft):
        write(sd1_factors, tmp_path / write.__name__)
        _, out, _ = loraudit("inspect", tmp_path / write.__name__, "-f", "json")
        modules.append(json.loads(out)["modules"])
    assert modules[0] == modules[1] == modules[2]


def test_text(tmp_path: Path, sd1_factors, loraudit) -> None:
    write_kohya(sd1_factors, tmp_path / "[red]ada.safetensors")
    code, out, err = loraudit("inspect", tmp_path / "[red]ada.safetensors")
    assert (code, err) == (0, "")
    assert "[red]ada.safetensors" in out
    assert "SD 1.x LoRA, base sd15, kohya layout, rank 2 to 3" in out
    assert max(map(len, out.splitlines())) <= 100
    assert "\x1b" not in out


def test_a_hostile_key_is_shown_harmless(tmp_path: Path, sd1_factors, loraudit) -> None:
    path = tmp_path / "x.safetensors"
    write_kohya(sd1_factors, path)
    from safetensors.numpy import load_file

    save_file(load_file(path) | {"\x1b]0;owned\x07[bold]\u202e\n::error::": np.zeros(1, np.float32)}, path)
    for form in ("text", "json"):
        code, out, _ = loraudit("inspect", path, "--format", form, "--reveal")
        assert code == 0
        assert not {"\x1b", "\x07", "\u202e"} & set(out)
        assert "[bold]" in out
        assert "[bold]" not in loraudit("inspect", path, "--format", form)[1]
        assert not any(line.startswith("::") for line in out.splitlines())


def test_output_file(tmp_path: Path, sd1_factors, loraudit) -> None:
    write_diffusers(sd1_factors, tmp_path / "x.safetensors")
    _, printed, _ = loraudit("inspect", tmp_path / "x.safetensors")
    code, out, err = loraudit("inspect", tmp_path / "x.safetensors", "-o", tmp_path / "report")
    assert (code, out, err) == (0, "", "")
    assert (tmp_path / "report").read_text() == printed
    code, _, err = loraudit("inspect", tmp_path / "x.safetensors", "-o", tmp_path / "no" / "report")
    assert (code, err.startswith("loraudit: error: cannot write")) == (2, True)


@pytest.mark.parametrize(
    ("name", "data", "code", "words"),
    [
        ("gone", None, 2, "no such file"),
        ("page.safetensors", b"<html></html>", 3, "web page"),
        ("pointer.safetensors", b"version https://git-lfs.github.com/spec/v1\n", 3, "Git LFS pointer"),
        ("empty.safetensors", b"", 3, "is empty"),
        ("\x1b[2J.safetensors", b"junk junk", 3, r"\x1b[2J.safetensors is not a safetensors file"),
    ],
)
def test_bad_targets(tmp_path: Path, name: str, data: bytes | None, code: int, words: str, loraudit) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    actual, out, err = loraudit("inspect", tmp_path / name)
    assert (actual, out) == (code, "")
    first, hint = err.splitlines()
    assert first.startswith("loraudit: error: ")
    assert words in first
    assert hint.strip()


def test_an_unreadable_file(tmp_path: Path, loraudit) -> None:
    path = tmp_path / "x.safetensors"
    path.symlink_to(path)
    code, _, err = loraudit("inspect", path)
    assert code == 2
    assert len(err.splitlines()) == 2


def test_usage(loraudit) -> None:
    assert loraudit("--version")[:2] == (0, f"loraudit {__version__}\n")
    for arguments in (("inspect",), ("inspect", "x", "--format", "yaml"), ("nothing",)):
        code, out, err = loraudit(*arguments)
        assert (code, out) == (2, "")
        assert "Traceback" not in err


def test_an_internal_error_is_not_taken_for_findings(loraudit, monkeypatch) -> None:
    monkeypatch.setattr("loraudit.lora.load_lora", lambda *_: 1 / 0)
    code, out, err = loraudit("inspect", "x")
    assert (code, out) == (2, "")
    assert err.splitlines()[-2] == "loraudit: error: internal error (ZeroDivisionError)"


def test_ctrl_c() -> None:
    script = (
        "import time, loraudit.lora\n"
        "def wait(*_): print('ready', flush=True); time.sleep(60)\n"
        "loraudit.lora.load_lora = wait\n"
        "import sys; sys.argv = ['loraudit', 'inspect', 'x']\n"
        "from loraudit.cli import main; main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "loraudit: error: interrupted\n")

"""An export holds what was read, says what was not, and takes nothing's place."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from loraudit.cli import main
from loraudit.errors import LorauditError
from loraudit.lora import export_lora, load_lora, write_diffusers, write_kohya, write_peft
from loraudit.lora.export import LAYOUTS

WRITERS = {"diffusers": write_diffusers, "kohya": write_kohya, "peft": write_peft}


@pytest.fixture
def inspect(monkeypatch, capsys):
    """Run `loraudit inspect` in this process: exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["loraudit", "inspect", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return run


@pytest.mark.parametrize("second", LAYOUTS)
@pytest.mark.parametrize("first", WRITERS)
def test_an_export_holds_exactly_what_was_read(
    first: str, second: str, tmp_path: Path, sd1_factors, inspect
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    WRITERS[first](sd1_factors, source, {"ss_output_name": "ada", "lora_adapter_metadata": "{}"})
    plain = inspect(source)
    code, out, err = inspect(source, "--export", second, "-o", target)
    assert (code, out) == plain[:2]
    assert err == (f"wrote {target}: 8 modules in {second} layout, float32, scale folded in, no metadata\n")
    lora = load_lora(target)
    assert (lora.dialect, lora.unread) == (second, ())
    assert set(lora.file.metadata) <= {"format"}
    for site, pair in load_lora(source).factors.items():
        np.testing.assert_array_equal(lora.factors[site].up, pair.up)
        np.testing.assert_array_equal(lora.factors[site].down, pair.down)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["source", "target"]


def test_a_scale_that_differs_by_module_is_kept(tmp_path: Path, sd1_factors) -> None:
    """A kohya file of mixed alphas, whose scale stock diffusers gets wrong."""
    path = tmp_path / "x.safetensors"
    write_kohya(sd1_factors, path)
    tensors = load_file(path)
    for index, key in enumerate(sorted(key for key in tensors if key.endswith(".alpha"))):
        tensors[key] = np.array(index + 0.5, np.float32)
    save_file(tensors, path)
    lora = load_lora(path)
    assert len({pair.scale for pair in lora.factors.values()}) > 4
    for layout in LAYOUTS:
        export_lora(lora, layout, tmp_path / layout)
        for site, pair in load_lora(tmp_path / layout).factors.items():
            np.testing.assert_array_equal(pair.delta(), lora.factors[site].delta())


def test_json_goes_to_stdout_beside_an_export(tmp_path: Path, sd1_factors, inspect) -> None:
    write_kohya(sd1_factors, tmp_path / "x")
    code, out, err = inspect(tmp_path / "x", "-f", "json", "--export", "peft", "-o", tmp_path / "y")
    assert (code, json.loads(out)["dialect"]) == (0, "kohya")
    assert err.startswith("wrote ")
    assert load_lora(tmp_path / "y").dialect == "peft"


def test_what_could_not_be_exported_is_said_and_exits_4(tmp_path: Path, sd1_factors, inspect) -> None:
    path = tmp_path / "x.safetensors"
    write_kohya(sd1_factors, path)
    extra = {"\x1b[31mone": np.zeros(1, np.float32), "two": np.zeros(1, np.float32)}
    save_file(load_file(path) | extra, path)
    why = "(no known layout names a tensor so) and 1 more"
    for options, shown in (((), "(hidden)"), (("--reveal",), r"\x1b[31mone")):
        code, _, err = inspect(path, "--export", "diffusers", "-o", tmp_path / f"y{len(options)}", *options)
        assert (code, len(err.splitlines())) == (4, 1)
        assert f"not in it, because unread: {shown} {why}" in err
    assert load_lora(tmp_path / "y0").unread == ()
    assert inspect(path)[0] == 0


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["itself", "file", "folder", "dangling", "link to it"])
def test_nothing_is_replaced(layout: str, kind: str, tmp_path: Path, sd1_factors, inspect) -> None:
    source, target = tmp_path / "x.safetensors", tmp_path / "target"
    write_kohya(sd1_factors, source)
    before = source.read_bytes()
    if kind == "itself":
        target = source
    elif kind == "file":
        target.write_bytes(b"before")
    elif kind == "folder":
        target.mkdir()
    else:
        target.symlink_to(source if kind == "link to it" else tmp_path / "nothing")
    names = sorted(entry.name for entry in tmp_path.iterdir())
    code, out, err = inspect(source, "--export", layout, "-o", target)
    assert (code, out) == (2, "")
    assert "exists already" in err
    assert source.read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == names
    if kind == "file":
        assert target.read_bytes() == b"before"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_failed_export_leaves_nothing(layout: str, tmp_path: Path, sd1_factors, monkeypatch) -> None:
    write_kohya(sd1_factors, tmp_path / "x")
    lora = load_lora(tmp_path / "x")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(LorauditError, match="No space left"):
        export_lora(lora, layout, tmp_path / "y")
    with pytest.raises(LorauditError, match="there is no folder"):
        export_lora(lora, layout, tmp_path / "no" / "y")
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


def test_an_export_needs_a_name(tmp_path: Path, sd1_factors, inspect) -> None:
    write_kohya(sd1_factors, tmp_path / "x")
    code, out, err = inspect(tmp_path / "x", "--export", "peft")
    assert (code, out) == (2, "")
    assert "-o" in err
    assert inspect(tmp_path / "x", "--export", "onnx", "-o", tmp_path / "y")[0] == 2
    assert not (tmp_path / "y").exists()

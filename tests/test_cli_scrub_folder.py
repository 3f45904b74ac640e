"""`loraudit scrub` of folders and of adapters that have a name."""

import json
import sys

import pytest

from loraudit.cli import main
from loraudit.lora.file.header import read_header
from tests.headers import KOHYA, audit, named_adapter, tensor_bytes, write


@pytest.fixture
def run(monkeypatch, capsys):
    """Run `loraudit scrub` in this process: exit code, stdout, stderr."""

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["loraudit", "scrub", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return int(stop.value.code or 0), captured.out, captured.err

    return command


def test_a_folder(run, tmp_path) -> None:
    folder, copy = tmp_path / "loras", tmp_path / "copies"
    (folder / "inner").mkdir(parents=True)
    write(folder / "a.safetensors", KOHYA)
    named_adapter(folder / "inner" / "adapter_model.safetensors", "jane_doe", "jane_doe")
    (folder / "inner" / "adapter_config.json").write_text(
        json.dumps(
            {"peft_type": "LORA", "r": 1, "base_model_name_or_path": "/home/jane", "target_modules": ["jane"]}
        )
    )
    (folder / "inner" / "README.md").write_text("Jane Doe")
    (folder / "z.safetensors").write_bytes(b"<html></html>")
    code, out, err = run(folder, "-o", copy)
    assert code == 3 and "z.safetensors is a web page" in err and "jane" not in (out + err).lower()
    assert "Not copied: 1 other file" in out and "Not copied: z.safetensors" in out
    written = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    assert written == {"a.safetensors", "inner/adapter_model.safetensors", "inner/adapter_config.json"}
    assert json.loads((copy / "inner" / "adapter_config.json").read_text()) == {"peft_type": "LORA", "r": 1}
    assert audit(copy / "a.safetensors") == audit(copy / "inner") == {}
    before = sorted(tmp_path.rglob("*"))
    for output in (copy, folder / "new", folder, folder / "a.safetensors"):
        assert run(folder, "-o", output)[0] == 2
    assert run(folder, "--dry-run")[0] == 3
    assert sorted(tmp_path.rglob("*")) == before


def test_the_name_of_a_folder_that_stays_is_said(run, tmp_path) -> None:
    for name, said in (("ada_berg", True), ("lora", False)):
        folder = tmp_path / f"of {name}"
        (folder / name).mkdir(parents=True)
        named_adapter(folder / name / "adapter_model.safetensors", "default", "default")
        (folder / name / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 1}')
        for more in (("--dry-run",), ("-o", tmp_path / f"copy of {name}")):
            code, out, _ = run(folder, *more, "-f", "json")
            (file,) = json.loads(out)["files"]
            assert code == 0 and [one["id"] for one in file["still_there"]] == ["LA-NAME-002"] * said
        assert ("LA-NAME-002" in audit(tmp_path / f"copy of {name}" / name)) == said


@pytest.mark.parametrize("names", [("jane_doe_berlin", "jane_doe_berlin"), ("jane_doe_berlin", "mara_lind")])
def test_the_name_of_an_adapter_is_reported_and_removed(run, tmp_path, names) -> None:
    source = named_adapter(tmp_path / "a.safetensors", *names)
    found = audit(source)["LA-NAME-001"]
    assert (set(found.quotes), found.places) == (set(names), ("the tensor names",))
    code, out, _ = run(source, "-o", tmp_path / "b.safetensors")
    assert code == 0 and "jane" not in out and "name of an adapter" in out
    assert audit(tmp_path / "b.safetensors") == {}
    new = read_header(tmp_path / "b.safetensors").tensors
    assert len(new) == 4 and not any("jane" in key or "mara" in key for key in new)
    assert tensor_bytes(tmp_path / "b.safetensors") == tensor_bytes(source)
    assert audit(named_adapter(tmp_path / "c.safetensors", "default", "default")) == {}

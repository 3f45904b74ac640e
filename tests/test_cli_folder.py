"""`loraudit scan FOLDER`: a report for every LoRA in it, the worst exit code of all."""

import json
import os
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from loraudit.cli import main
from loraudit.lora import write_peft
from loraudit.report.json_v1 import schema
from tests.headers import KOHYA, write

METADATA = ("--depth", "metadata", "-f", "json")


def folder_of(tmp_path: Path) -> Path:
    folder = tmp_path / "loras"
    (folder / "b" / "deep").mkdir(parents=True)
    for name in (
        "c.safetensors",
        "a.safetensors",
        "b/y.safetensors",
        "b/x.safetensors",
        "b/deep/z.SAFETENSORS",
    ):
        write(folder / name, {})
    return folder


def reports_of(out: str) -> list[dict]:
    document = json.loads(out)
    jsonschema.validate(document, schema())
    assert document["schema"] == "loraudit.reports/1"
    return document["reports"]


def test_every_lora_of_a_folder_in_the_order_of_paths(scan, tmp_path) -> None:
    code, out, err = scan(folder_of(tmp_path), *METADATA)
    names = [report["target"]["name"] for report in reports_of(out)]
    assert names == [
        "a.safetensors", "b/deep/z.SAFETENSORS", "b/x.safetensors", "b/y.safetensors", "c.safetensors",
    ]  # fmt: skip
    assert code == 0
    assert "reading: 5 of 5" in err
    _, out, _ = scan(tmp_path / "loras", tmp_path / "loras", *METADATA)
    assert reports_of(out)[0]["target"]["name"] == "loras/a.safetensors"


def test_the_worst_file_decides_the_exit_code(scan, tmp_path) -> None:
    folder = folder_of(tmp_path)
    assert scan(folder, *METADATA)[0] == 0  # the control: nothing but clean files
    (folder / "page.safetensors").write_bytes(b"<html></html>")
    assert scan(folder, *METADATA)[0] == 3
    write(folder / "broken.safetensors", {"ss_tag_frequency": "{"})
    assert scan(folder, *METADATA)[0] == 4
    write(folder / "jane.safetensors", KOHYA)
    code, out, err = scan(folder, *METADATA)
    assert code == 1
    assert len(reports_of(out)) == 8
    assert "page.safetensors is a web page" in err
    (folder / "gone.safetensors").symlink_to("nowhere")
    code, out, _ = scan(folder, *METADATA)
    assert (code, len(reports_of(out))) == (2, 9)


def test_links_to_folders_are_not_followed_and_links_to_files_are(scan, tmp_path) -> None:
    folder = folder_of(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    target = write(tmp_path / "elsewhere" / "jane.safetensors", KOHYA)
    (folder / "out").symlink_to(tmp_path / "elsewhere")
    (folder / "round").symlink_to(folder)
    code, out, _ = scan(folder, *METADATA)
    assert (code, len(reports_of(out))) == (0, 5)
    (folder / "jane.safetensors").symlink_to(target)
    code, out, _ = scan(folder, *METADATA)
    assert (code, len(reports_of(out))) == (1, 6)


def test_an_empty_folder_and_one_with_pickles_are_nothing(scan, tmp_path) -> None:
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    assert scan(tmp_path / "empty", "--depth", "metadata")[0] == 3
    (tmp_path / "empty" / "x.ckpt").write_bytes(b"\x80")
    code, _, err = scan(tmp_path / "empty", "--depth", "metadata")
    assert code == 3 and "never unpickles" in err
    folder = folder_of(tmp_path)
    (folder / "x.ckpt").write_bytes(b"\x80")
    code, _, err = scan(folder, *METADATA)
    assert code == 0 and "1 pickle file was not opened" in err


def test_a_mixed_folder(scan, tmp_path, sd1_factors) -> None:
    """An adapter counts as one with its side files; what is no LoRA is named and stops nobody."""
    from loraudit.lora.write import serialize

    folder = tmp_path / "loras"
    folder.mkdir()
    write_peft(sd1_factors, folder / "adapter")
    (folder / "sd").mkdir()
    (folder / "sd" / "model_index.json").write_text("{}")
    write(folder / "a.safetensors", {})
    key = "model.diffusion_model.input_blocks.0.0.weight"
    (folder / "full.safetensors").write_bytes(serialize({key: np.ones((4, 4), np.float32)}, {}))
    code, out, err = scan(folder, "--depth", "weights", "-f", "json")
    reports = {report["target"]["name"]: report for report in reports_of(out)}
    assert list(reports) == ["a.safetensors", "adapter", "full.safetensors", "sd"]
    assert code == 3
    assert reports["adapter"]["target"]["dialect"] == "peft"
    assert reports["adapter"]["incomplete"] == []
    assert "full.safetensors is a full checkpoint, not a LoRA" in err
    assert "sd is a whole diffusion model" in err


def test_a_folder_with_one_lora_is_that_lora(scan, tmp_path) -> None:
    (tmp_path / "jane").mkdir()
    write(tmp_path / "jane" / "x.safetensors", {})
    _, out, _ = scan(tmp_path / "jane", *METADATA)
    assert json.loads(out)["target"]["name"] == "x.safetensors"


def test_inspect_wants_one(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["loraudit", "inspect", str(folder_of(tmp_path))])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert "holds 2 .safetensors files" in capsys.readouterr().err


def test_the_text_of_many_files_can_be_read(scan, tmp_path) -> None:
    for number in range(100):
        write(tmp_path / f"{number:03}.safetensors", KOHYA if number == 7 else {})
    code, out, _ = scan(tmp_path, "--depth", "metadata")
    lines = out.splitlines()
    assert code == 1
    assert len(lines) < 120 and max(map(len, lines)) <= 100
    assert any(line.startswith("HIGH") and "007.safetensors" in line for line in lines)
    assert "jane" not in out.lower()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read_is_an_error(scan, tmp_path) -> None:
    folder = folder_of(tmp_path)
    (folder / "b").chmod(0)
    try:
        assert scan(folder, *METADATA)[0] == 2
    finally:
        (folder / "b").chmod(0o700)

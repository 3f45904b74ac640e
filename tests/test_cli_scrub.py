"""`loraudit scrub`: the words are gone, the numbers are the same to the byte, the input is untouched."""

import hashlib
import json
import os
import re
import stat
import sys

import numpy as np
import pytest

from loraudit.cli import main
from loraudit.lora.file.header import read_header
from loraudit.lora.write import serialize
from loraudit.metadata.scrub import KEPT_KEYS, allowed_metadata, scrub
from tests.headers import DIFFUSERS, KOHYA, TENSORS, audit, named_adapter, tensor_bytes, write
from tests.test_lora_file_header import GOOD, frame
from tests.test_metadata import JPEG


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


def test_a_kohya_file(run, tmp_path) -> None:
    source = write(
        tmp_path / "jane.safetensors", KOHYA | {"modelspec.thumbnail": f"data:image/jpeg;base64,{JPEG}"}
    )
    before = source.read_bytes()
    code, out, err = run(source, "-o", tmp_path / "new.safetensors")
    assert (code, err) == (0, "")
    assert source.read_bytes() == before
    new = tmp_path / "new.safetensors"
    assert audit(source) != {}
    assert audit(new) == {}
    assert tensor_bytes(new) == tensor_bytes(source)
    assert hashlib.sha256(tensor_bytes(new)).hexdigest() in out
    metadata = read_header(new).metadata
    assert set(metadata) == KEPT_KEYS & set(KOHYA)
    assert json.loads(metadata["ss_network_args"]) == {"conv_dim": "4", "conv_alpha": "1", "algo": "locon"}
    for key in set(metadata) - {"ss_network_args"}:
        assert metadata[key] == KOHYA[key]
    for word in ("jane", "doe", "red hair", "kitchen", "421337", JPEG[:20]):
        assert word not in out.lower()
        assert word.encode() not in new.read_bytes().lower()
    for key in ("ss_tag_frequency", "modelspec.thumbnail", "ss_session_id"):
        assert key in out
    assert re.search(r"ss_network_args +in part, of \d+ characters", out)
    assert "The person in the weights" in out


def test_a_file_that_says_nothing_keeps_all_it_says(run, tmp_path) -> None:
    source = write(tmp_path / "a.safetensors", DIFFUSERS | {"ss_v2": "False"})
    code, _, _ = run(source, "-o", tmp_path / "b.safetensors")
    kept = json.loads(read_header(tmp_path / "b.safetensors").metadata["lora_adapter_metadata"])
    wanted = json.loads(DIFFUSERS["lora_adapter_metadata"])
    assert wanted.pop("unet.base_model_name_or_path") is None
    assert kept == wanted
    again = run(tmp_path / "b.safetensors", "-o", tmp_path / "c.safetensors")
    assert (tmp_path / "c.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert code == again[0] == 0
    assert "nothing: the header said no more than loaders need" in again[1]


def test_what_no_loader_shows_is_gone(run, tmp_path) -> None:
    text = json.dumps(GOOD | {"b": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0], "note": "hidden"}})[
        1:-1
    ]
    source = tmp_path / "a.safetensors"
    source.write_bytes(
        frame(b'{"__metadata__":{"format":"hidden","format":"pt"},' + text.encode() + b"} \t ")
    )
    code, out, _ = run(source, "-o", tmp_path / "b.safetensors")
    assert code == 0
    assert b"hidden" not in (tmp_path / "b.safetensors").read_bytes()
    assert out.count("(hidden)") == 3
    header = read_header(tmp_path / "b.safetensors")
    assert (header.hidden, header.metadata) == ((), {"format": "pt"})
    assert tensor_bytes(tmp_path / "b.safetensors") == bytes(16)


def test_what_cannot_be_removed_is_said(run, tmp_path) -> None:
    vector = {"bundle_emb.jane woman.string_to_param": np.ones((1, 768), np.float32)}
    source = write(tmp_path / "a.safetensors", {}, **vector)
    code, out, _ = run(source, "-o", tmp_path / "Jane_Doe.safetensors")
    assert code == 0
    assert "LA-NAME-001  The training folders name the subject. Found in the tensor names." in out
    assert "LA-NAME-002" in out


def test_never_over_the_input(run, tmp_path) -> None:
    source = write(tmp_path / "a.safetensors", KOHYA)
    before = source.read_bytes()
    os.link(source, tmp_path / "hard.safetensors")
    (tmp_path / "soft.safetensors").symlink_to(source)
    for output in (source, tmp_path / "hard.safetensors", tmp_path / "soft.safetensors"):
        code, out, err = run(source, "-o", output)
        assert (code, out) == (2, "")
        assert "the output is the input" in err
    code, _, err = run(tmp_path / "soft.safetensors", "-o", source)
    assert code == 2
    assert source.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 3


def test_never_over_another_file(run, tmp_path) -> None:
    source = write(tmp_path / "a.safetensors", KOHYA)
    other = tmp_path / "b.safetensors"
    other.write_bytes(b"somebody's only copy")
    (tmp_path / "dangling").symlink_to(tmp_path / "c.safetensors")
    for output in (other, tmp_path / "dangling"):
        code, out, err = run(source, "-o", output)
        assert (code, out) == (2, "")
        assert f"{output} exists already" in err
    assert other.read_bytes() == b"somebody's only copy"
    assert not (tmp_path / "c.safetensors").exists()
    assert run(source, "-o", tmp_path / "d.safetensors")[0] == 0


def test_an_error_leaves_nothing_behind(run, tmp_path) -> None:
    source = write(tmp_path / "a.safetensors", KOHYA)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "page.safetensors").write_bytes(b"<html></html>")
    for arguments, wanted in [
        ((tmp_path / "gone", "-o", tmp_path / "b"), 2),
        ((source, "-o", tmp_path / "folder"), 2),
        ((source, "-o", tmp_path / "pipe"), 2),
        ((source, "-o", tmp_path / "gone" / "b"), 2),
        ((tmp_path / "folder", "-o", tmp_path / "b"), 3),
        ((tmp_path / "page.safetensors", "-o", tmp_path / "b"), 3),
        ((source,), 2),
    ]:
        before = sorted(tmp_path.iterdir())
        code, out, err = run(*arguments)
        assert (code, out) == (wanted, ""), arguments
        assert err
        assert sorted(tmp_path.iterdir()) == before


def test_it_obeys_the_umask(tmp_path) -> None:
    source = write(tmp_path / "a.safetensors", KOHYA)
    scrub(source, tmp_path / "b.safetensors")
    assert audit(tmp_path / "b.safetensors") == {}
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "b.safetensors").stat().st_mode) == 0o666 & ~umask


def test_the_words_on_the_screen_are_harmless(run, tmp_path) -> None:
    source = tmp_path / "a.safetensors"
    key = "\x1b[31m[red]\u202e::error::\x9b"
    source.write_bytes(serialize(TENSORS, {key: "x"}))
    _, out, _ = run(source, "-o", tmp_path / "b.safetensors")
    assert not set(out) & set("\x1b\u202e\x9b")
    assert not any(line.startswith("::") for line in out.splitlines())


def test_a_scale_that_is_a_root_stays_and_a_lost_one_is_said(run, tmp_path) -> None:
    for alpha, lost in ((4, False), (32**0.5, False), (52.520008, True)):
        text = json.dumps({"unet.r": 4, "unet.lora_alpha": alpha})
        source = write(tmp_path / "a.safetensors", {"lora_adapter_metadata": text})
        output = tmp_path / f"{alpha}.safetensors"
        code, out, _ = run(source, "-o", output)
        assert code == 0 and ("what the file said of its scale" in out) == lost
        kept = json.loads(read_header(output).metadata["lora_adapter_metadata"])
        assert kept == ({"unet.r": 4} if lost else json.loads(text))


def test_other_words_in_tensor_names_are_still_there(run, tmp_path) -> None:
    source = write(tmp_path / "a.safetensors", {}, mara=np.ones(3, np.float32))
    _, out, _ = run(source, "-o", tmp_path / "b.safetensors")
    assert "1 tensor name holds words of their own" in out and "mara" not in out
    assert "mara" in read_header(tmp_path / "b.safetensors").tensors
    assert "of their own" not in run(write(tmp_path / "c.safetensors", KOHYA), "--dry-run")[1]


def test_a_dry_run_says_the_same_and_writes_nothing(run, tmp_path) -> None:
    source = write(tmp_path / "a.safetensors", KOHYA)
    code, planned, _ = run(source, "--dry-run", "-o", tmp_path / "b.safetensors")
    assert code == 0 and list(tmp_path.iterdir()) == [source]
    _, done, _ = run(source, "-o", tmp_path / "b.safetensors")
    told = done.replace("Wrote b.safetensors", "Would write a.safetensors").replace("scan b.", "scan a.")
    assert planned == told
    assert run(source)[0] == 2


def test_json(run, tmp_path) -> None:
    source = write(tmp_path / "a.safetensors", KOHYA | {"jane's notes": "hello"})
    code, out, _ = run(source, "-o", tmp_path / "b.safetensors", "-f", "json")
    document = json.loads(out)
    assert (code, document["schema"], document["dry_run"], document["not_copied"]) == (
        0, "loraudit.scrub/1", False, 0,
    )  # fmt: skip
    (file,) = document["files"]
    assert file["tensor_sha256"] == hashlib.sha256(tensor_bytes(source)).hexdigest()
    assert {"key": "a key of its own", "characters": 5, "in_part": False} in file["removed"]
    assert (file["still_there"], file["error"], file["name"]) == ([], None, "b.safetensors")
    _, out, _ = run(source, "--dry-run", "-f", "json", "--reveal")
    assert "jane's notes" in {item["key"] for item in json.loads(out)["files"][0]["removed"]}


def test_provenance_stays_on_demand(run, tmp_path) -> None:
    told = KOHYA | {
        "modelspec.license": "CreativeML-OpenRAIL-M",
        "base_model": "runwayml/stable-diffusion-v1-5",
    }
    more = {"ss_sd_model_name": "/home/jane/models/v1-5-pruned-emaonly.safetensors", "license": "ask Jane"}
    source = write(tmp_path / "a.safetensors", told | more)
    assert run(source, "-o", tmp_path / "b.safetensors")[0] == 0
    code, out, _ = run(source, "-o", tmp_path / "c.safetensors", "--keep-provenance")
    plain, kept = (read_header(tmp_path / f"{name}.safetensors").metadata for name in "bc")
    assert code == 0 and {key: kept[key] for key in kept.keys() - plain.keys()} == {
        "sshs_model_hash": "ab" * 32,
        "sshs_legacy_hash": "deadbeef",
        "ss_sd_model_hash": "e1441589",
        "ss_sd_model_name": "v1-5-pruned-emaonly.safetensors",
        "base_model": "runwayml/stable-diffusion-v1-5",
        "modelspec.license": "CreativeML-OpenRAIL-M",
    }
    assert "LA-LINK-001" in out and audit(tmp_path / "c.safetensors").keys() == {"LA-LINK-001"}
    for name in ("jane/lora-of-me", "/home/jane/jane.safetensors", "4-9-1-7"):
        assert not allowed_metadata({"base_model": name, "sshs_model_hash": "jane"}, provenance=True)


def test_no_secret_is_in_the_list_of_what_was_removed(run, tmp_path) -> None:
    """By its shape or by its key, in a key, in the name of an adapter and in a text that nobody sees."""
    token = "hf_" + "aB3dE" * 7
    text = {"hub_token": "hunterTwoNine", "ada hunterTwoNine": "x", f"x_{token}": "x", "note": token}
    source = write(tmp_path / "a.safetensors", text)
    adapter = named_adapter(tmp_path / "b.safetensors", "hunterTwoNine", token)
    for path, words in ((source, ("ada hunter…", "x_hf_aB3…")), (adapter, ("hf_aB3…",))):
        for form in ("text", "json"):
            _, out, _ = run(path, "--dry-run", "-f", form, "--reveal")
            out = out.encode().decode("unicode_escape") if form == "json" else out
            assert "B3dEaB3d" not in out and (path == adapter or "TwoNine" not in out)
            assert form == "text" or all(word.split("…")[0] in out for word in words)

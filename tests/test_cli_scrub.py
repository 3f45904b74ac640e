"""`loraudit scrub`: the words are gone, the numbers are the same to the byte, the input is untouched."""

import hashlib
import json
import os
import re
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file

from loraudit.cli import main
from loraudit.lora import load_lora, write_diffusers, write_kohya
from loraudit.lora.file.header import read_header
from loraudit.lora.write import serialize
from loraudit.metadata.scrub import KEPT_KEYS, allowed_metadata, scrub
from tests.headers import DIFFUSERS, KOHYA, TENSORS, audit, write
from tests.test_lora_file_header import GOOD, frame
from tests.test_metadata import JPEG
from tests.test_metadata_hostile import HOSTILE, NESTED


def tensor_bytes(path: Path) -> bytes:
    data = path.read_bytes()
    return data[8 + int.from_bytes(data[:8], "little") :]


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


def test_stock_safetensors_reads_the_same_tensors(tmp_path) -> None:
    more = {"odd": np.zeros((0, 3), np.float32), "last": np.arange(5, dtype=np.float32)}
    source = write(tmp_path / "a.safetensors", KOHYA, **more)
    scrub(source, tmp_path / "b.safetensors")
    old, new = load_file(source), load_file(tmp_path / "b.safetensors")
    assert old.keys() == new.keys()
    for key in old:
        assert np.array_equal(old[key], new[key])
    with safe_open(tmp_path / "b.safetensors", "np") as file:
        assert file.metadata()["ss_network_dim"] == "4"
    assert int.from_bytes((tmp_path / "b.safetensors").read_bytes()[:8], "little") % 8 == 0


@pytest.mark.parametrize("writer", [write_diffusers, write_kohya])
def test_the_scale_survives(tmp_path, sd1_factors, writer) -> None:
    writer(sd1_factors, tmp_path / "a.safetensors", KOHYA if writer is write_kohya else DIFFUSERS)
    scrub(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    old, new = load_lora(tmp_path / "a.safetensors"), load_lora(tmp_path / "b.safetensors")
    assert old.dialect == new.dialect
    assert list(old.factors) == list(new.factors)
    for site, pair in old.factors.items():
        assert pair.scale == new.factors[site].scale
        assert np.array_equal(pair.up, new.factors[site].up)


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


ARGS, ADAPTER = "ss_network_args", "lora_adapter_metadata"


@pytest.mark.parametrize(
    ("key", "said", "kept"),
    [
        ("format", "pt; made by jane", None),
        ("format", "pt\n", None),
        ("ss_base_model_version", "/home/jane/model", None),
        ("ss_base_model_version", "sdxl_base_v1-0", "sdxl_base_v1-0"),
        ("ss_network_module", "jane.networks", None),
        ("ss_network_module", "lycoris.kohya", "lycoris.kohya"),
        ("ss_network_dim", "16", "16"),
        ("ss_network_dim", "1" * 400, None),
        ("modelspec.implementation", "https://github.com/jane/lora", None),
        (ARGS, '{"path": "/home/jane", "conv_dim": "8"}', '{"conv_dim": "8"}'),
        (ARGS, '{"conv_dim": 1, "conv_dim": 2}', None),
        (ARGS, '{"conv_dim": 1e999, "conv_alpha": 11111111111}', "{}"),
        (ARGS, '{"preset": "my secret plan"}', "{}"),
        (ARGS, '{"block_dims": "4,4,8,8", "algo": "lokr", "use_tucker": "True"}', ...),
        (ARGS, "null", "null"),
        (ARGS, "jane", None),
        (ADAPTER, '{"unet.r": 4, "unet.who": "jane"}', '{\n  "unet.r": 4\n}'),
        (ADAPTER, '{"unet.target_modules": ["/home/jane"]}', "{}"),
        (ADAPTER, '{"unet.alpha_pattern": {"to_q": {"jane": 1}}}', "{}"),
        (ADAPTER, '{\n  "unet.alpha_pattern": {\n    "^mid_block.to_q": 8\n  }\n}', ...),
        (ADAPTER, '{"unet.target_modules": ["to_q", "hf_' + "A1" * 20 + '"]}', None),  # found by fuzzing
        ("ss_base_model_version", "sk-" + "a1" * 12, None),  # found by benchmarks/fuzz.py
        ("ss_base_model_version", "sd_v1.5-pruned", "sd_v1.5-pruned"),
        (ADAPTER, "[" * 5000, None),
        ("ss_training_comment", "None", None),
    ],
)
def test_the_allow_list_checks_values(key, said, kept) -> None:
    assert allowed_metadata({key: said}).get(key) == (said if kept is ... else kept)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(sorted(KEPT_KEYS | {"ss_tag_frequency", "x"})),
        HOSTILE | NESTED.map(json.dumps),
        max_size=5,
    )
)
def test_whatever_it_said_a_scrubbed_file_scans_clean(tmp_path: Path, metadata) -> None:
    source = tmp_path / "a.safetensors"
    source.write_bytes(frame(GOOD | {"__metadata__": metadata}))
    (tmp_path / "b.safetensors").unlink(missing_ok=True)
    scrub(source, tmp_path / "b.safetensors")
    assert audit(tmp_path / "b.safetensors") == {}
    assert tensor_bytes(tmp_path / "b.safetensors") == bytes(16)
    with safe_open(tmp_path / "b.safetensors", "np") as file:
        assert set(file.metadata() or {}) <= KEPT_KEYS


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


def test_a_file_that_shrinks_is_no_half_copy(tmp_path, monkeypatch) -> None:
    import loraudit.metadata.scrub as module

    source = write(tmp_path / "a.safetensors", {})
    header = read_header(source)
    source.write_bytes(source.read_bytes()[:-100])
    monkeypatch.setattr(module, "read_header", lambda _path: header)
    with pytest.raises(Exception, match="shrank while it was read"):
        scrub(source, tmp_path / "b.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


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


def test_stock_diffusers_saves_nothing_and_reads_a_copy_alike(tmp_path) -> None:
    import torch
    from diffusers.loaders import StableDiffusionLoraLoaderMixin as Stock
    from peft import LoraConfig

    layers = {
        f"{module}.lora_{side}.weight": torch.ones(4, 4)
        for module in (
            "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
            "mid_block.resnets.0.conv1",
        )
        for side in "AB"
    }
    config = LoraConfig(
        r=4, lora_alpha=2, target_modules=["to_q", "conv1"], rank_pattern={"to_q": 8}, use_rslora=True
    )
    Stock.save_lora_weights(tmp_path, unet_lora_layers=layers, unet_lora_adapter_metadata=config.to_dict())
    (source,) = tmp_path.iterdir()
    assert "lora_adapter_metadata" in read_header(source).metadata
    assert audit(source) == {}
    scrub(source, tmp_path / "b.safetensors")
    assert audit(tmp_path / "b.safetensors") == {}
    old, old_alphas, old_config = Stock.lora_state_dict(source, return_lora_metadata=True)
    new, new_alphas, new_config = Stock.lora_state_dict(tmp_path / "b.safetensors", return_lora_metadata=True)
    assert old.keys() == new.keys() and old_alphas == new_alphas
    for key in ("r", "lora_alpha", "rank_pattern", "use_rslora", "peft_type"):
        assert new_config[f"unet.{key}"] == old_config[f"unet.{key}"]
    assert sorted(new_config["unet.target_modules"]) == ["conv1", "to_q"]
    kept = {name.partition(".")[2]: value for name, value in new_config.items()}
    assert LoraConfig(**kept).lora_alpha == 2  # as diffusers makes its configuration of it

"""Words out of a file: in no output and in no error before `--reveal`, whatever is wrong with the file."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from loraudit.cli import main
from loraudit.lora.write import serialize
from tests.headers import ATTN, TENSORS, write
from tests.test_lora_file_header import GOOD, frame

FORMATS = ("text", "json", "sarif", "markdown", "html")
WORD = re.compile(r"zqx\w*", re.IGNORECASE)
ONE = np.ones((1, 4), np.float32)
PAIR = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a command in this process: exit code, stdout, stderr."""

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["loraudit", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return command


def config(**fields: object) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        pairs = {
            f"base_model.model.{ATTN[5:]}.lora_{side}.weight": value
            for side, value in zip("AB", TENSORS.values(), strict=True)
        }
        (folder / "adapter_model.safetensors").write_bytes(serialize(pairs, {}))
        (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 1} | fields))
        return folder

    return make


def metadata(**texts: str) -> Callable[[Path], Path]:
    return lambda folder: write(folder / "a.safetensors", texts)


def tensors(*names: str) -> Callable[[Path], Path]:
    return lambda folder: write(folder / "a.safetensors", {}, **dict.fromkeys(names, ONE))


def header(table: object) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / "a.safetensors"
        path.write_bytes(frame(table if isinstance(table, bytes) else json.dumps(table).encode()))
        return path

    return make


def adapter(**fields: object) -> Callable[[Path], Path]:
    return metadata(lora_adapter_metadata=json.dumps({f"unet.{key}": value for key, value in fields.items()}))


def twice(folder: Path) -> Path:
    path = config()(folder)
    (folder / "adapter_config.json").write_text('{"zqxkey": 1, "zqxkey": 2}')
    return path


def not_finite(folder: Path) -> Path:
    down, up = TENSORS
    bad = {
        f"{ATTN}.lora_A.zqxname.weight": TENSORS[down] * np.nan,
        f"{ATTN}.lora_B.zqxname.weight": TENSORS[up],
    }
    (folder / "a.safetensors").write_bytes(serialize(bad, {}))
    return folder / "a.safetensors"


FILES: dict[str, Callable[[Path], Path]] = {
    "words of every kind": metadata(
        ss_output_name="zqxone zqxtwo", ss_training_comment="zqxnote", zqxkey="/home/zqxhome/x",
        ss_tag_frequency='{"10_zqxdir person": {"zqxtag": 3}}', api_key="zqxsecretzqx", e="zqx@example.org",
    ),
    "a bundled embedding": tensors("bundle_emb.zqxname.string_to_param"),
    "a learned token": tensors("<zqx-name>", "zqxname.emb_params"),
    "a tensor of any name": tensors("zqx name", f"{ATTN}.zqxpart.weight", "unet.zqx.lora.up.weight"),
    "a second adapter": tensors(f"{ATTN}.lora_A.zqxname.weight", f"{ATTN}.lora_B.zqxother.weight"),
    "a magnitude that is none": tensors(f"{ATTN}.lora_magnitude_vector.zqxname.weight"),
    "a tensor's numbers": not_finite,
    "a type": adapter(peft_type="zqxtype"),
    "an alpha": adapter(lora_alpha="zqxalpha"),
    "a rank": adapter(r=["zqxrank"]),
    "a table that is none": adapter(rank_pattern="zqxpattern"),
    "an expression": adapter(rank_pattern={"to_q|zqxpattern": 4}),
    "a rank of a module": adapter(alpha_pattern={"to_q": {"zqxname": 4}}),
    "a type, in a folder": config(peft_type="zqxtype"),
    "an alpha, in a folder": config(lora_alpha="zqxalpha"),
    "an expression, in a folder": config(rank_pattern={"to_q|zqxpattern": 4}),
    "a key twice, in a folder": twice,
    "a dtype": header({"zqxtensor": PAIR | {"dtype": "ZQX"}}),
    "a shape": header({"zqxtensor": PAIR | {"shape": ["zqxshape"]}}),
    "offsets": header({"zqxtensor": PAIR | {"data_offsets": [0, 5]}}),
    "a hole": header({"zqxtensor": PAIR | {"data_offsets": [4, 8]}}),
    "no tensor": header({"zqxtensor": "zqxvalue"}),
    "a field twice": header(b'{"zqxtensor":{"dtype":"F32","zqxfield":1,"zqxfield":2}}'),
    "no JSON": header(b'{"zqxtensor": zqxvalue}'),
    "half a character": header(b'{"zqx\\ud800": {}}'),
    "metadata that is no text": header({"__metadata__": {"zqxkey": ["zqxvalue"]}, **GOOD}),
}  # fmt: skip


@pytest.mark.parametrize("make", FILES.values(), ids=FILES)
def test_no_word_of_a_file_is_shown_unasked(run, tmp_path, make) -> None:
    folder = tmp_path / "lora"
    folder.mkdir()
    target = make(folder)
    commands = [("scan", "--depth", depth, "-f", one) for depth in ("metadata", "weights") for one in FORMATS]
    commands += [("inspect", "-f", one) for one in FORMATS[:2]]
    for command in commands:
        _, out, err = run(command[0], target, *command[1:])
        assert not WORD.findall(out + err), command
        assert "Traceback" not in err
    _, _, err = run("inspect", target, "--export", "kohya", "-o", tmp_path / "out.safetensors")
    assert not WORD.findall(err)
    _, out, err = run(
        "scrub",
        make(folder) if target.is_file() else next(folder.glob("*.safetensors")),
        "-o",
        tmp_path / "b.safetensors",
    )
    assert not WORD.findall(out + err)


def test_what_is_asked_for_is_shown(run, tmp_path) -> None:
    target = FILES["words of every kind"](tmp_path)
    for one in FORMATS:
        _, out, _ = run("scan", target, "--depth", "metadata", "-f", one, "--reveal")
        assert {"zqxone", "zqxnote", "zqxhome", "zqxtag"} <= set(WORD.findall(out))
        assert "zqxsecretzqx" not in out
    target = FILES["a bundled embedding"](tmp_path)
    for one in FORMATS[:2]:
        assert "bundle_emb.(hidden).string_to_param" in run("inspect", target, "-f", one)[1]
        assert "bundle_emb.zqxname.string_to_param" in run("inspect", target, "-f", one, "--reveal")[1]


def test_what_a_bug_says_is_not_shown(run, tmp_path, monkeypatch) -> None:
    import loraudit.metadata.rules as module

    def broken(_exposure: object) -> None:
        try:
            raise KeyError("zqxname")
        except KeyError:
            raise ValueError("zqxvalue")  # noqa: B904

    monkeypatch.setattr(module, "_values", broken)
    code, out, err = run("scan", FILES["words of every kind"](tmp_path), "--depth", "metadata")
    assert (code, out) == (2, "")
    assert not WORD.findall(
        err.replace('raise KeyError("zqxname")', "").replace('raise ValueError("zqxvalue")', "")
    )
    assert {"KeyError", "ValueError"} <= set(err.split()) and "internal error (ValueError)" in err
    assert "test_cli_private" in err  # where in the code

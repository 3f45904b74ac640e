"""The base that a file names, compared with the base of the scan: by names, by hashes, and told."""

import hashlib
import json
from pathlib import Path

import pytest

from loraudit.audit.made_on import compare
from loraudit.base.load import load_base
from loraudit.base.source import find_base
from loraudit.findings.conditions import StatedBase
from loraudit.hiding import HIDDEN
from loraudit.lora import write_diffusers
from loraudit.lora.source.source import find_source
from loraudit.metadata import read_exposure
from loraudit.metadata.stated import Stated, stated_base
from tests.audits import random_factors
from tests.headers import KOHYA, write

EMAONLY = "6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa"


def stated_in(path: Path) -> Stated | None:
    return stated_base(read_exposure(find_source(str(path), offline=True)))


def test_what_files_say(tmp_path: Path, sd1_factors) -> None:
    path = write(tmp_path / "x.safetensors", {**KOHYA, "ss_new_sd_model_hash": EMAONLY.upper()})
    assert stated_in(path) == Stated(
        ("/home/jdoe/models/v1-5-pruned-emaonly.safetensors",), (EMAONLY, "e1441589")
    )
    for silent in (
        {}, {"ss_sd_model_name": "None"}, {"ss_sd_model_name": "x" * 999}, {"ss_sd_model_hash": "jane doe"},
    ):  # fmt: skip
        assert stated_in(write(tmp_path / "x.safetensors", silent)) is None
    folder = tmp_path / "peft"
    folder.mkdir()
    write_diffusers(sd1_factors, folder / "adapter_model.safetensors", {})
    (folder / "README.md").write_text("---\nbase_model: Lykon/DreamShaper\n---\n# x\n")
    for config, names in (
        ({"base_model_name_or_path": "runwayml/stable-diffusion-v1-5"}, ("runwayml/stable-diffusion-v1-5",)),
        ({"base_model_name_or_path": 7}, ()), ([], ()), ("{", ()), ("[" * 9999, ()),
    ):  # fmt: skip
        text = config if isinstance(config, str) else json.dumps(config)
        (folder / "adapter_config.json").write_text(text)
        stated = stated_in(folder)
        assert stated is not None and stated.names == (*names, "Lykon/DreamShaper")


@pytest.mark.parametrize(
    ("name", "used", "agrees"),
    [
        ("v1-5-pruned-emaonly.safetensors", "sd15", True),
        ("C:\\models\\V1-5-pruned-emaonly.ckpt", "sd15", True),
        ("runwayml/stable-diffusion-v1-5", "sd15", True),
        ("/cache/snapshots/451f4fe16113bff5a5d2269ed5ad43b0592e9a14", "sd15", True),
        ("runwayml/stable-diffusion-v1-5", "hf://stable-diffusion-v1-5/stable-diffusion-v1-5@main", True),
        ("v1-5-pruned", "hf://runwayml/stable-diffusion-v1-5", True),
        ("sd-v1-4.ckpt", "sd14", True),
        ("CompVis/stable-diffusion-v1-4", "sd14", True),
        ("sd-v1-4.ckpt", "sd15", False),
        ("realisticVisionV51_v51VAE.safetensors", "sd15", False),
        ("realisticVisionV51_v51VAE.safetensors", "hf://ns/realisticVisionV51_v51VAE", True),
        ("Realistic Vision V51 (v51VAE)", "hf://ns/name/realisticVisionV51_v51VAE.safetensors", True),
        ("v1-5-pruned-emaonly", "hf://ns/name", False),
        ("", "sd15", False),
        ("///", "sd15", False),
    ],
)
def test_names(name: str, used: str, agrees: bool) -> None:
    found = compare(Stated((name,), ()), find_base(used))
    assert found is not None and found.agrees is agrees


def test_folders_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder, file = tmp_path / "My-Mix", tmp_path / "other.safetensors"
    folder.mkdir()
    file.write_bytes(bytes(range(256)) * (0x110000 // 256) + b"end")
    data = file.read_bytes()
    whole, older = (hashlib.sha256(part).hexdigest() for part in (data, data[0x100000:0x110000]))
    assert compare(Stated(("my_mix.ckpt",), ()), find_base("My-Mix")).agrees
    monkeypatch.chdir(folder)
    assert compare(Stated(("my_mix.ckpt",), ()), find_base(".")).agrees
    used = find_base(str(file))
    for hashes, agrees in (
        ((whole,), True), ((whole[:10],), True), ((older[:8],), True), ((older[:8], "0" * 64), True),
        (("0" * 64,), False), ((older[8:16],), False),
    ):  # fmt: skip
        for names in ((), ("elsewhere.safetensors",)):
            assert compare(Stated(names, hashes), used).agrees is agrees
    # A name is enough, and a hash alone says nothing of a folder.
    assert compare(Stated(("other",), ("0" * 64,)), used).agrees
    assert compare(Stated((), (whole,)), find_base(str(folder))) is None
    assert compare(None, used) is None
    file.unlink()
    assert compare(Stated((), (whole,)), used).agrees is False


def test_hashes_of_published_checkpoints() -> None:
    for hashes, used, agrees in (
        ((EMAONLY,), "sd15", True), ((EMAONLY[:10],), "sd15", True), (("81761151",), "sd15", True),
        (("7460a6fa",), "sd15", False), (("7460a6fa",), "sd14", True), ((EMAONLY,), "sd14", False),
        ((EMAONLY,), "hf://runwayml/stable-diffusion-v1-5", True), ((EMAONLY,), "hf://ns/name", None),
    ):  # fmt: skip
        found = compare(Stated((), hashes), find_base(used))
        assert (found.agrees if found else None) is agrees, (hashes, used)


def test_words_that_are_not_known_are_private() -> None:
    used = find_base("sd14")
    assert compare(Stated(("runwayml/stable-diffusion-v1-5",), ()), used) == StatedBase(
        False, "runwayml/stable-diffusion-v1-5", ("runwayml/stable-diffusion-v1-5",)
    )
    private = compare(Stated(("/home/jane/janes_mix.ckpt",), ()), used)
    assert private == StatedBase(False, HIDDEN, ("/home/jane/janes_mix.ckpt",))
    assert (private.told(False), private.told(True)) == (HIDDEN, "/home/jane/janes_mix.ckpt")
    hostile = compare(Stated(("\x1b[2J hf_" + "a1B2" * 9 + " pass", "x" * 299), ()), used, ("pass",))
    assert hostile is not None and "\x1b" not in str(hostile) and "a1B2a1B2" not in str(hostile)
    assert "pass" not in " ".join(hostile.quotes)
    assert max(map(len, hostile.quotes)) <= 121
    assert compare(Stated((), ("0" * 64,)), used).told(True) == "hash 0000000000"


def test_a_scan_tells_it(tmp_path: Path, scan) -> None:
    factors, quick = (
        random_factors(load_base("tiny")),
        ("--samples", 2, "--steps", 2, "--offline", "--attack"),
    )
    told = {}
    for name, base in (("other", "janes_mix.safetensors"), ("same", "tiny"), ("none", "None")):
        metadata = {"ss_sd_model_name": base}
        path = tmp_path / f"{name}.safetensors"
        write_diffusers(factors, path, metadata)
        outputs = [
            f"{kind}={tmp_path / name}.{kind}" for kind in ("json", "text", "markdown", "html", "junit")
        ]
        options = [word for output in outputs for word in ("-o", output)]
        code, _, err = scan(path, *quick, "prompts", *options, "--fail-on", "never")
        assert code in {0, 4}, err
        told[name] = {Path(out).suffix[1:]: Path(out.partition("=")[2]).read_text() for out in outputs}
    for text in told["other"].values():
        assert "janes_mix" not in text
    stated = json.loads(told["other"]["json"])["settings"]["stated_base"]
    assert stated == {"agrees": False, "shown": HIDDEN, "quotes": []}
    line = f"Made on {HIDDEN}, the file says; scanned on tiny."
    assert line in " ".join(told["other"]["text"].split())
    for kind in ("markdown", "html", "junit"):
        assert "the file says; scanned on tiny" in told["other"][kind]
    assert json.loads(told["same"]["json"])["settings"]["stated_base"]["agrees"] is True
    assert "stated_base" not in json.loads(told["none"]["json"])["settings"]
    assert not [
        kind for name in ("same", "none") for kind, text in told[name].items() if "the file says" in text
    ]
    code, out, _ = scan(
        tmp_path / "other.safetensors", *quick, "prompts", "--reveal", "-f", "json", "--fail-on", "never"
    )
    assert json.loads(out)["settings"]["stated_base"]["quotes"] == ["janes_mix.safetensors"]
    assert [one["name"] for one in json.loads(out)["scores"]] == [
        one["name"] for one in json.loads(told["other"]["json"])["scores"]
    ]

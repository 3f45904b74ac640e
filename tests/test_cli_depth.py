"""`loraudit scan --depth`: what a file says is part of every report, whatever becomes of its weights."""

import json
import re
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from loraudit.lora import write_kohya, write_peft
from loraudit.lora.write import serialize
from loraudit.report.json_v1 import schema
from tests.audits import random_factors
from tests.headers import KOHYA, NO_METADATA, TENSORS, write
from tests.test_lora_file_header import frame

FLUX = {"transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": np.ones((4, 3072), np.float32)}
HOSTILE = (
    "<script>alert(1)</script> [red]PASS[/red] [/b] \x1b[2J\x1b]52;c;aGk=\x07 \x9b31m \u202ecod\u2066\u200b"
    "\n::error::pwned\r\n##[error]pwned [link=https://evil]x[/link] ![x](https://evil/beacon.png) =1+1"
    " \u2028"
)


def severities(report: dict) -> dict[str, str]:
    return {finding["id"]: finding["severity"] for finding in report["findings"]}


def test_the_words_of_a_kohya_file(scan, tmp_path) -> None:
    path = write(tmp_path / "x.safetensors", KOHYA)
    code, out, err = scan(path, "--depth", "metadata", "-f", "json")
    report = json.loads(out)
    jsonschema.validate(report, schema())
    assert (code, err) == (1, "")
    assert report["verdict"]["level"] == "high"
    assert report["settings"]["depth"] == "metadata"
    assert (report["target"]["sha256"], report["target"]["size_bytes"]) == (None, path.stat().st_size)
    assert report["incomplete"] == report["scores"] == []
    assert severities(report)["LA-NAME-001"] == "high"
    assert "jane" not in out.lower() and "jdoe" not in out
    _, out, _ = scan(path, "--depth", "metadata", "--reveal")
    assert "jane doe person" in out and "UTC+02:00" in out
    assert "It says nothing about the person in the" in out


@pytest.mark.parametrize(
    ("level", "code"), [("low", 1), ("medium", 1), ("high", 0), ("critical", 0), ("never", 0)]
)
def test_fail_on(scan, tmp_path, level, code) -> None:
    path = write(tmp_path / "x.safetensors", NO_METADATA)  # at worst medium: the title
    assert scan(path, "--depth", "metadata", "--fail-on", level)[0] == code


def test_nothing_said_is_nothing_found(scan, tmp_path) -> None:
    path = write(tmp_path / "x.safetensors", {"format": "pt"})
    code, out, _ = scan(path, "--depth", "metadata")
    assert code == 0
    assert "NOTHING FOUND" in out and "(--depth attack)" in " ".join(out.replace("┃", " ").split())
    assert "safe." not in out


def test_what_cannot_be_read_is_incomplete(scan, tmp_path) -> None:
    path = write(tmp_path / "x.safetensors", {"ss_tag_frequency": "{"})
    code, out, _ = scan(path, "--depth", "metadata", "-f", "json")
    assert code == 4
    assert json.loads(out)["verdict"]["level"] == "inconclusive"


def test_the_words_are_read_where_the_weights_are_broken(scan, tmp_path, sd1_factors) -> None:
    broken = {site: pair for site, pair in sd1_factors.items() if "attn2" in site}
    next(iter(broken.values())).up[0, 0] = np.nan
    write_kohya(broken, tmp_path / "x.safetensors", KOHYA)
    assert scan(tmp_path / "x.safetensors", "--depth", "metadata")[0] == 1
    code, out, err = scan(
        tmp_path / "x.safetensors", "--depth", "weights", "-f", "json", "--fail-on", "never"
    )
    report = json.loads(out)
    assert code == 3
    assert err.startswith("loraudit: error: ")
    assert severities(report)["LA-NAME-001"] == "high"
    assert report["incomplete"][0]["what"] == "target"


def test_weights_are_read_whole_and_not_attacked(scan, tmp_path, sd1_factors) -> None:
    write_kohya(sd1_factors, tmp_path / "x.safetensors")
    code, out, _ = scan(tmp_path / "x.safetensors", "--depth", "weights", "-f", "json")
    report = json.loads(out)
    jsonschema.validate(report, schema())
    assert (code, report["verdict"]["level"]) == (0, "none")
    assert report["target"]["modules"]["read"] == len(sd1_factors) == len(report["update"])
    first = report["update"][0]
    assert first["frobenius"] == pytest.approx(sd1_factors[first["site"]].frobenius(), rel=1e-4)
    assert len(report["target"]["sha256"]) == 64
    more = serialize(TENSORS | {"lora_unet_nowhere.alpha": np.ones((), np.float32)}, {})
    (tmp_path / "y.safetensors").write_bytes(more)
    code, out, _ = scan(tmp_path / "y.safetensors", "--depth", "weights", "-f", "json")
    assert (code, json.loads(out)["incomplete"][0]["what"]) == (4, "part of the file")


@pytest.mark.parametrize("depth", ["weights", "attack"])
def test_another_family_still_gets_its_words_read(scan, tmp_path, depth) -> None:
    (tmp_path / "a.safetensors").write_bytes(serialize(FLUX, KOHYA))
    (tmp_path / "b.safetensors").write_bytes(serialize(FLUX, NO_METADATA))
    (tmp_path / "c.safetensors").write_bytes(serialize(FLUX, {}))
    code, out, err = scan(tmp_path / "a.safetensors", "--depth", depth)
    assert code == 1
    assert "FLUX" in err
    assert "VERDICT: HIGH" in out and "LA-NAME-001" in out and "Not looked at" in out
    assert "FLUX" in out
    code, out, _ = scan(tmp_path / "b.safetensors", "--depth", depth, "-f", "json")
    report = json.loads(out)
    jsonschema.validate(report, schema())
    assert (code, report["verdict"]["level"], report["target"]["family"]) == (3, "medium", None)
    assert scan(tmp_path / "b.safetensors", "--depth", depth, "--fail-on", "low")[0] == 1
    code, out, _ = scan(tmp_path / "c.safetensors", "--depth", depth)
    assert code == 3
    assert "NOT SCANNED" in out


def test_at_metadata_depth_the_family_does_not_matter(scan, tmp_path) -> None:
    (tmp_path / "c.safetensors").write_bytes(serialize(FLUX, {}))
    assert scan(tmp_path / "c.safetensors", "--depth", "metadata")[0] == 0


def test_an_attack_keeps_the_words_beside_what_it_found(scan, tmp_path) -> None:
    from loraudit.base.load import load_base

    write_kohya(random_factors(load_base("tiny")), tmp_path / "x.safetensors", KOHYA)
    quick = ("--samples", 2, "--steps", 2, "--device", "cpu", "--offline", "--attack", "prompts")
    code, out, _ = scan(tmp_path / "x.safetensors", *quick, "-f", "json")
    report = json.loads(out)
    jsonschema.validate(report, schema())
    assert code == 1
    assert {"LA-NAME-001", "LA-IDENTITY-003"} <= set(severities(report))
    assert report["settings"]["depth"] == "attack"
    assert report["scores"]


def test_options_about_pictures_need_an_attack(scan, tmp_path) -> None:
    path = write(tmp_path / "x.safetensors", {})
    for option in ("--reference", "--save-images"):
        code, out, err = scan(path, "--depth", "metadata", option, tmp_path / "photos")
        assert (code, out) == (2, "")
        assert "need pictures" in err


def test_several_targets(scan, tmp_path, sd1_factors) -> None:
    clean = write(tmp_path / "x.safetensors", {})
    (tmp_path / "page.safetensors").write_bytes(b"<html></html>")
    metadata = ("--depth", "metadata", "-f", "json")
    code, out, err = scan(clean, tmp_path / "page.safetensors", tmp_path / "gone", *metadata)
    reports = json.loads(out)["reports"]
    jsonschema.validate(json.loads(out), schema())
    assert code == 2
    assert [report["verdict"]["level"] for report in reports] == ["none", "inconclusive", "inconclusive"]
    assert err.count("loraudit: error: ") == 2
    assert scan(clean, tmp_path / "page.safetensors", *metadata)[0] == 3
    assert scan(clean, clean, *metadata)[0] == 0
    unet = {site: pair for site, pair in sd1_factors.items() if site.startswith("unet.")}
    write_peft(unet, tmp_path / "lora")
    assert scan(tmp_path / "lora", *metadata)[0] == 0


@pytest.mark.parametrize("reveal", [False, True])
@pytest.mark.parametrize("form", ["text", "json"])
def test_hostile_words_are_inert(scan, tmp_path, form, reveal) -> None:
    folders = json.dumps({f"10_{HOSTILE} person": {HOSTILE: HOSTILE}})
    metadata = {
        HOSTILE: f"/home/{HOSTILE}",
        "ss_dataset_dirs": folders,
        "ss_tag_frequency": json.dumps({HOSTILE: {HOSTILE: 1}}),
        "ss_output_name": HOSTILE,
        "modelspec.title": HOSTILE,
        "modelspec.author": HOSTILE,
        "modelspec.trigger_phrase": HOSTILE,
        "modelspec.thumbnail": f"data:image/svg+xml;base64,{HOSTILE}",
        "ss_session_id": HOSTILE,
        "modelspec.date": HOSTILE,
        "ss_training_finished_at": HOSTILE,
        "ot_config": json.dumps({"token": HOSTILE.replace(" ", "")}),
    }
    tensor = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0], HOSTILE: HOSTILE}
    path = tmp_path / "[red]x ::error::\u202e.safetensors"
    path.write_bytes(frame({"__metadata__": metadata, f"bundle_emb.{HOSTILE}.x": tensor}, b""))
    (tmp_path / "README.md").write_text(f"---\ninstance_prompt: {HOSTILE[:90]}\n---\n")
    arguments = (path, "--depth", "metadata", "-f", form, *(["--reveal"] if reveal else []))
    code, out, err = scan(*arguments)
    assert code == 1
    assert not set(out + err) & set("\x1b\x9b\x07\r\u202e\u2066\u200b\u2028")
    assert "::error" not in out and "##[error" not in out
    assert not any(line.lstrip().startswith("::") for line in out.splitlines())
    assert ("alert(1)" in out) is reveal
    if form == "json":
        jsonschema.validate(json.loads(out), schema())
        assert out.isascii()
    elif reveal:
        assert "[red]PASS[/red]" in out  # shown, not obeyed


def test_a_large_file_costs_no_more_than_its_header(scan, tmp_path) -> None:
    """Only the header is read: what follows may as well be a hole of two gigabytes."""
    size = 1 << 31
    header = {"__metadata__": dict(KOHYA), "a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
    path = Path(tmp_path / "x.safetensors")
    path.write_bytes(frame(header, b""))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + size)
    assert scan(path, "--depth", "metadata", "--fail-on", "never")[0] == 0


def test_the_readme_shows_what_comes_out(scan, tmp_path) -> None:
    write(tmp_path / "jane_doe_v3.safetensors", KOHYA)
    _, out, _ = scan(tmp_path / "jane_doe_v3.safetensors", "--depth", "metadata")
    lines = [line for line in out.splitlines() if re.match(r" [A-Z]+ ", line)]
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    assert "```text\n" + "\n".join(lines) + "\n```" in readme

"""`loraudit scan` as a user meets it, on the embedded base with LoRAs and encoders of random weights."""

import base64
import importlib.util
import io
import json
import re
import shutil
import signal
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
import torch
from PIL import Image

from loraudit.audit.scan import Scanned
from loraudit.base.load import load_base
from loraudit.base.model import Base
from loraudit.cards import base_card, models_dir
from loraudit.encoder import save_encoder
from loraudit.findings.finding import Confidence, Finding, Severity
from loraudit.findings.report import Report, Target
from loraudit.lora import write_diffusers, write_kohya, write_peft
from loraudit.people.sources import portraits
from loraudit.report.json_v1 import schema
from tests.audits import random_encoder, random_factors

QUICK = ("--samples", 2, "--steps", 2, "--device", "cpu", "--offline")


@pytest.fixture(scope="module")
def tiny() -> Base:
    return load_base("tiny")


@pytest.fixture(scope="module")
def lora(tiny, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("lora") / "ada.safetensors"
    write_kohya(random_factors(tiny), path, {"modelspec.trigger_phrase": "zwx"})
    return path


@pytest.fixture(scope="module")
def encoder(tiny, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("encoder") / "enc"
    encoder = random_encoder(tiny)
    save_encoder(folder, encoder, encoder.frozen, base="tiny")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number, picture in enumerate(portraits(200_000, 0, 2)):
        pixels = (picture.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def test_json_with_everything(scan, lora, encoder, photos, tmp_path) -> None:
    code, out, err = scan(
        lora,
        *QUICK,
        "--attack",
        "paper",
        "--attack",
        "prompts",
        "--encoder",
        encoder,
        "--reference",
        photos,
        "--seed",
        5,
        "--save-images",
        tmp_path / "out",
        "-f",
        "json",
        "-o",
        f"html={tmp_path / 'report.html'}",
    )
    report = json.loads(out)
    jsonschema.validate(report, schema())
    assert code == 4  # two pictures are too few to say anything
    assert report["target"]["name"] == "ada.safetensors"
    assert report["target"]["base"] == "tiny"
    settings = report["settings"]
    prompts = ["no-trigger", "class", "any-name", "trigger"]
    assert settings["attacks"] == ["paper", *(f"prompts:{name}" for name in prompts)]
    assert (settings["base"], settings["seeds"]) == ("tiny", [5, 6])
    assert settings["budget"] == "at most 2 samples, 2 steps, guidance 3"
    assert settings["device"].startswith("cpu, torch ")
    assert (settings["encoder"]["name"], len(settings["encoder"]["sha256"])) == ("enc", 64)
    assert {"faces", "accepted", "cosine", "clip-i", "clip-t"} <= {
        score["name"] for score in report["scores"]
    }
    assert report["incomplete"] == []
    page = (tmp_path / "report.html").read_text()
    assert "zwx" not in out + err + page
    uris = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert {Image.open(io.BytesIO(base64.b64decode(uri))).size for uri in uris} == {(5, 5)}
    # Photos, and the strongest attack by two seeds: two pictures ask for no control.
    assert len(uris) == 2 + 2
    assert "data:image" not in out
    assert err.splitlines()[0] == "ada.safetensors: tiny LoRA, scanned on the base tiny"
    assert "a face found in 2 of 2 photos" in err
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"sheet.png", "paper-5.png", "prompts-trigger-5.png"} <= names
    assert len(names) == 5 * 2 + 1
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700


def test_photos_that_are_not_read_leave_the_audit_incomplete(scan, lora, photos, tmp_path) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(photos, mixed)
    for number in range(3):
        (mixed / f"jane_doe_{number}.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    options = (lora, *QUICK, "--attack", "prompts", "-f", "json", "--reference")
    code, out, err = scan(*options, mixed)
    said = "3 of 5 files were not read (.heic): only JPEG, PNG and WebP in the folder itself are"
    assert f"reference: {said}" in err.splitlines()
    (gap,) = json.loads(out)["incomplete"]
    assert (gap["what"], code) == ("reference photos", 4)
    assert gap["why"].startswith(said) and "jane" not in out
    control = scan(*options, photos)
    assert json.loads(control[1])["incomplete"] == [] and "not read" not in control[2]


def test_a_scan_can_be_repeated(scan, lora, tmp_path) -> None:
    runs = [
        scan(lora, *QUICK, "--attack", "prompts", "--save-images", tmp_path / name, "-f", "json")
        for name in "ab"
    ]
    assert runs[0][:2] == runs[1][:2]
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    _, other, _ = scan(lora, *QUICK, "--attack", "prompts", "--seed", 1, "-f", "json")
    assert json.loads(other)["scores"] != json.loads(runs[0][1])["scores"]


def test_three_layouts_get_the_same_verdict(scan, tiny, encoder, tmp_path) -> None:
    factors = random_factors(tiny)
    files = []
    for write in (write_diffusers, write_kohya, write_peft):
        write(factors, tmp_path / write.__name__)
        files.append(tmp_path / write.__name__)
    _, out, _ = scan(*files, *QUICK, "--encoder", encoder, "-f", "json")
    document = json.loads(out)
    jsonschema.validate(document, schema())
    one, two, three = document["reports"]
    assert [report["target"]["dialect"] for report in document["reports"]] == ["diffusers", "kohya", "peft"]
    for other in (two, three):
        assert other["verdict"] == one["verdict"]
        assert [finding["id"] for finding in other["findings"]] == [
            finding["id"] for finding in one["findings"]
        ]
        for a, b in zip(one["scores"], other["scores"], strict=True):
            assert a["value"] == pytest.approx(b["value"], abs=1e-3)


def test_private_words_need_reveal(scan, monkeypatch, tmp_path) -> None:
    finding = Finding("LA-IDENTITY-001", Severity.HIGH, Confidence.LOW, "t", "d", "r", quotes=("zwx",))
    report = Report("0", Target("x", family="tiny"), (finding,))
    monkeypatch.setattr("loraudit.audit.scan.scan", lambda *_arguments: [Scanned(report)])
    for form in ("text", "json", "html"):
        code, out, _ = scan("x", "-f", form)
        assert (code, "zwx" in out) == (1, False)
        assert "zwx" in scan("x", "-f", form, "--reveal")[1]
        scan("x", "-f", form, "--reveal", "-o", tmp_path / form)
        assert "zwx" in (tmp_path / form).read_text()
        assert stat.S_IMODE((tmp_path / form).stat().st_mode) == 0o600
    for level, code in (("low", 1), ("high", 1), ("critical", 0), ("never", 0)):
        assert scan("x", "--fail-on", level)[0] == code


def test_pictures_are_asked_for_by_html_alone_and_clear_by_reveal(scan, monkeypatch) -> None:
    asked = []
    report = Report("0", Target("x", family="tiny"))

    def fake(_targets, request, *_arguments):
        asked.append(request.sheet)
        return [Scanned(report)]

    monkeypatch.setattr("loraudit.audit.scan.scan", fake)
    for words in (("-f", "json"), ("-f", "json", "--reveal"), ("-f", "html"), ("-f", "html", "--reveal")):
        scan("x", *words)
    scan("x", "-o", "html=/dev/null")
    assert asked == [None, None, "pixelated", "clear", "pixelated"]


def test_without_an_encoder_a_scan_runs_what_needs_none(scan, lora, monkeypatch) -> None:
    monkeypatch.setattr(
        "loraudit.attacks.encoder.base_card", lambda name: replace(base_card(name), encoders={})
    )
    code, out, err = scan(lora, *QUICK, "-f", "json", "--fail-on", "never")
    report = json.loads(out)
    assert report["incomplete"] == []
    assert "left out: attack encoder: no encoder for the base tiny ships" in err
    assert report["settings"]["attacks"][0] == "search"
    # One that was asked for is missed.
    named = ["--attack", "paper", "--attack", "search"]
    code, out, _ = scan(lora, *QUICK, *named, "-f", "json", "--fail-on", "never")
    report = json.loads(out)
    assert code == 4
    assert {finding["id"]: finding["severity"] for finding in report["findings"]} == {
        "LA-CAPTION-002": "low",  # the trigger in the metadata: the attacks alone cannot tell
        "LA-IDENTITY-003": "inconclusive",
    }
    (gap,) = report["incomplete"]
    assert gap["what"] == "attack paper"
    assert "no encoder for the base tiny ships with loraudit; train one" in gap["why"]


def test_an_encoder_of_another_rank_is_a_gap_and_a_missing_one_an_error(scan, lora, tiny, tmp_path) -> None:
    encoder = random_encoder(tiny, rank=3)
    save_encoder(tmp_path / "three", encoder, encoder.frozen, base="tiny")
    code, out, _ = scan(lora, *QUICK, "--encoder", tmp_path / "three", "-f", "json")
    assert code == 4
    assert "reads rank 3, ada.safetensors has rank 2" in json.loads(out)["incomplete"][0]["why"]
    code, out, err = scan(lora, *QUICK, "--encoder", tmp_path / "gone")
    assert (code, out) == (2, "")
    assert "there is no encoder" in err and "gone" in err


def test_a_missing_face_model_leaves_the_rest(scan, lora, monkeypatch, tmp_path) -> None:
    """As with photographs and no network: here the scorers of photographs are asked for on the tiny base."""
    photographs = {"face": "facenet", "clip": "clip-vit-l-14"}
    card = replace(base_card("tiny"), **photographs)
    monkeypatch.setattr("loraudit.base.source.base_card", lambda _name: card)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    code, out, _ = scan(lora, *QUICK, "--attack", "prompts", "--save-images", tmp_path / "out", "-f", "json")
    report = json.loads(out)
    jsonschema.validate(report, schema())
    assert code == 4
    assert report["incomplete"][0]["what"] == "face model"
    assert [finding["id"] for finding in report["findings"]] == ["LA-CAPTION-002"]
    assert (tmp_path / "out" / "sheet.png").exists()


def test_without_torch_the_scan_says_what_to_install(scan, lora, monkeypatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else real(name))
    code, out, _ = scan(lora, "-f", "json")
    report = json.loads(out)
    jsonschema.validate(report, schema())
    assert code == 4
    assert report["target"]["rank"] == [2, 2]
    assert "pip install 'loraudit[attack]'" in report["incomplete"][0]["why"]


def test_too_little_memory_is_incomplete(scan, lora, monkeypatch) -> None:
    monkeypatch.setattr("loraudit.base.memory.available_memory", lambda: 1000)
    code, out, _ = scan(lora, *QUICK, "--base", models_dir() / "tiny-sd", "-f", "json")
    assert code == 4
    assert "GiB of memory" in json.loads(out)["incomplete"][0]["why"]


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")]
)
def test_memory_that_runs_out_is_incomplete(scan, lora, monkeypatch, error) -> None:
    def fail(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr(Base, "sample", fail)
    code, out, _ = scan(lora, *QUICK, "--attack", "prompts", "-f", "json")
    assert code == 4
    assert "not enough memory for the base tiny" in json.loads(out)["incomplete"][0]["why"]


def test_usage_errors_are_one_line_and_make_no_report(scan, lora, tmp_path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no picture")
    for arguments, words in [
        ((tmp_path / "gone",), "no such file"),
        ((lora, "-o", tmp_path / "gone" / "report"), "cannot write"),
        ((lora, "-o", tmp_path), "cannot write"),
        ((lora, "--base", "sd99"), "no base is called 'sd99'"),
        ((lora, "--reference", tmp_path / "gone"), "there is no folder"),
        ((lora, "--reference", tmp_path / "broken"), "is not a photo that can be read"),
        ((lora, "--encoder", "no-such"), "there is no encoder no-such"),
        ((lora, "--save-images", tmp_path / "full"), "is not empty"),
        *([] if torch.cuda.is_available() else [((lora, "--device", "cuda"), "no CUDA device")]),
    ]:
        code, out, err = scan(*arguments, *(QUICK if "--device" not in arguments else ()))
        assert (code, out) == (2, ""), arguments
        assert words in err
        assert err.splitlines()[-2].startswith("loraudit: error: ")
    assert (tmp_path / "full" / "mine").read_text() == "mine"


def test_the_worst_of_several_targets_wins(scan, lora, tmp_path) -> None:
    (tmp_path / "page.safetensors").write_bytes(b"<html></html>")
    targets = (tmp_path / "gone", tmp_path / "page.safetensors", lora)
    quick = (*QUICK, "--attack", "prompts")
    code, out, err = scan(*targets, *quick, "--save-images", tmp_path / "out", "-f", "json")
    assert code == 2
    reports = json.loads(out)["reports"]
    assert [report["target"]["family"] for report in reports] == [None, None, "tiny"]
    assert err.count("loraudit: error: ") == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["03"]
    assert scan(*targets[1:], *quick)[0] == 4


def test_options_are_checked(scan, lora) -> None:
    for arguments in (
        ("--samples", 0),
        ("--attack", "magic"),
        ("--fail-on", "none"),
        ("--format", "yaml"),
        ("--seed", -1),
    ):
        code, out, _ = scan(lora, *arguments)
        assert (code, out) == (2, "")


def test_ctrl_c() -> None:
    script = (
        "import sys, time, loraudit.audit.words\n"
        "def wait(*a, **b): print('ready', flush=True); time.sleep(60)\n"
        "loraudit.audit.words.find_source = wait\n"
        "sys.argv = ['loraudit', 'scan', 'x', '-o', 'report']\n"
        "from loraudit.cli import main; main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "loraudit: error: interrupted\n")

"""`loraudit scan` as a user meets it, on the embedded base with LoRAs and encoders of random weights."""

import base64
import io
import json
import re
import shutil
import stat
from pathlib import Path

import jsonschema
import pytest
import torch
from PIL import Image

from loraudit.audit.scan import Scanned
from loraudit.base.load import load_base
from loraudit.base.model import Base
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
    # Photos, and two seeds of the strongest attack and its controls: pictures without a face ask for those.
    assert len(uris) == 2 + 2 * 3
    assert "data:image" not in out
    assert err.splitlines()[0] == "ada.safetensors: tiny LoRA, scanned on the base tiny"
    assert "a face found in 2 of 2 photos" in err
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"sheet.png", "paper-5.png", "prompts-trigger-5.png"} <= names
    assert len(names) == 5 * 2 + 4 * 2 * 2 + 1
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

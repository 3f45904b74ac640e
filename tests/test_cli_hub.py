"""The commands on LoRAs of the Hub, and the cards beside those."""

import hashlib
import json
import sys
from pathlib import Path

import hub as fake
import pytest

from loraudit.cli import main
from loraudit.lora.source.address import parse_spec
from loraudit.lora.source.hub import fetch_header, fetch_side_files
from loraudit.lora.source.source import find_source
from loraudit.metadata import read_exposure


def run(monkeypatch, capsys, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["loraudit", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    captured = capsys.readouterr()
    return int(stop.value.code or 0), captured.out, captured.err


def test_inspect(hub: fake.Hub, kohya: bytes, monkeypatch, capsys) -> None:
    hub.files = {"ada.safetensors": kohya}
    code, out, _ = run(monkeypatch, capsys, "inspect", "ns/name")
    assert code == 0
    assert f"hf://ns/name@{fake.COMMIT}/ada.safetensors" in out
    assert hashlib.sha256(kohya).hexdigest() in out
    code, out, _ = run(monkeypatch, capsys, "inspect", fake.ADDRESS, "--offline", "-f", "json")
    file = json.loads(out)["file"]
    assert (code, file["origin"]) == (0, f"hf://ns/name@{fake.COMMIT}/ada.safetensors")
    code, out, err = run(monkeypatch, capsys, "inspect", "ns/none")
    assert (code, out, len(err.splitlines())) == (2, "", 2)
    hub.files = {"page.safetensors": b"<html>" + b" " * 600}
    code, _, err = run(monkeypatch, capsys, "inspect", "hf://ns/name@v1/page.safetensors")
    assert (code, "web page" in err) == (3, True)


def test_scan_reads_hub_targets_and_honours_offline(hub: fake.Hub, kohya: bytes, monkeypatch, capsys) -> None:
    hub.files = {"ada.safetensors": b"<html>" + b" " * 600, "b.safetensors": kohya}
    code, _, err = run(monkeypatch, capsys, "scan", fake.ADDRESS)
    assert (code, "web page" in err) == (3, True)
    hub.seen.clear()
    code, _, err = run(monkeypatch, capsys, "scan", "hf://ns/name/b.safetensors", "--offline")
    assert (code, "not in the Hub cache" in err, hub.seen) == (2, True, [])


def test_a_metadata_scan_downloads_no_weights(hub: fake.Hub, monkeypatch, capsys, tmp_path: Path) -> None:
    tensor = {"dtype": "U8", "shape": [1 << 24], "data_offsets": [0, 1 << 24]}
    header = {"__metadata__": {"modelspec.trigger_phrase": "sks ada"}, "x": tensor}
    data = fake.with_header(json.dumps(header).encode(), 1 << 24)
    (tmp_path / "ada.safetensors").write_bytes(data)
    hub.files, hub.redirect = {"ada.safetensors": data}, True
    options = ("--depth", "metadata", "-f", "json", "--reveal")
    _, there, _ = run(monkeypatch, capsys, "scan", "ns/name", *options)
    assert sum(hub.sent) <= 1 << 18
    assert not (tmp_path / "cache").exists()
    _, here, _ = run(monkeypatch, capsys, "scan", "ada.safetensors", *options)
    there, here = json.loads(there), json.loads(here)
    prints = [[finding.pop("fingerprint") for finding in one["findings"]] for one in (there, here)]
    assert there["findings"] == here["findings"] != []
    assert not set(prints[0]) & set(prints[1]), "another file may lie elsewhere under the same name"
    assert there["target"]["sha256"] == hashlib.sha256(data).hexdigest()
    assert there["target"]["origin"] == f"hf://ns/name@{fake.COMMIT}/ada.safetensors"


CARD = b"---\nbase_model: /home/jdoe/sd\ninstance_prompt: a photo of zwx\n---\n"


def test_a_metadata_scan_reads_the_card_and_the_configuration(hub: fake.Hub, monkeypatch, capsys) -> None:
    hub.files = {"a/ada.safetensors": fake.with_header(fake.a_tensor(8), 8)}
    options = ("--depth", "metadata", "-f", "json", "--reveal", "--fail-on", "never")
    address = "hf://ns/name/a/ada.safetensors"
    code, out, _ = run(monkeypatch, capsys, "scan", address, *options)
    assert (code, json.loads(out)["findings"]) == (0, [])
    config = json.dumps({"base_model_name_or_path": "/Users/jdoe/x"}).encode()
    hub.files |= {"a/README.md": CARD, "a/adapter_config.json": config, "README.md": b"---\nauthor: x\n---"}
    _, out, _ = run(monkeypatch, capsys, "scan", address, *options)
    found = {finding["id"]: finding for finding in json.loads(out)["findings"]}
    assert set(found) == {"LA-PATH-001", "LA-CAPTION-002"}
    assert found["LA-PATH-001"]["quotes"] == ["/home/jdoe/sd", "/Users/jdoe/x"]
    hub.status = 503
    code, out, _ = run(monkeypatch, capsys, "scan", address, *options)
    assert (code, out) == (2, "")


def test_a_card_without_end_is_cut_off(hub: fake.Hub) -> None:
    hub.files, hub.gzip = (
        {"ada.safetensors": fake.with_header(fake.a_tensor(8), 8), "README.md": CARD * 400_000},
        True,
    )
    spec = parse_spec(fake.ADDRESS)
    texts = fetch_side_files(spec, fetch_header(spec))
    assert set(texts) == {"README.md"}
    assert len(texts["README.md"]) == 1_000_000
    # What the system buffers for a slow reader is megabytes; the card is 27.
    assert hub.sent[-1] < len(hub.files["README.md"]) / 2


def triggers(offline: bool = False) -> tuple[str, ...]:
    """Words told beside the file on the Hub, once it is fetched."""
    return read_exposure(find_source(fake.ADDRESS, offline)).triggers


def test_offline_the_cache_says_what_it_has(hub: fake.Hub, kohya: bytes) -> None:
    """A whole file brings its card along, a card that is too large stays where it is."""
    spec = parse_spec(fake.ADDRESS)
    hub.files = {"ada.safetensors": kohya, "README.md": CARD}
    assert triggers() == ("a photo of zwx",)
    hub.seen.clear()
    assert fetch_side_files(spec, fetch_header(spec, offline=True), offline=True) == {
        "README.md": CARD.decode()
    }
    assert triggers(offline=True) == ("a photo of zwx",)
    assert hub.seen == []


def test_a_large_card_is_not_downloaded(hub: fake.Hub, kohya: bytes, tmp_path: Path) -> None:
    hub.files = {"ada.safetensors": kohya, "README.md": CARD * 100_000}
    assert triggers() == ()
    assert not list(tmp_path.rglob("README.md"))

"""LoRAs on the Hub, against a Hub of our own: addresses, whole files, and what goes wrong."""

import hashlib
import os
import subprocess
import sys
from html import unescape
from pathlib import Path

import hub as fake
import pytest

from loraudit.audit.target import target_of
from loraudit.errors import LorauditError
from loraudit.findings.report import Report
from loraudit.lora import load_lora, write_peft
from loraudit.lora.source.address import HubSpec, parse_spec
from loraudit.lora.source.hub import fetch_header
from loraudit.report import FORMATS


@pytest.mark.parametrize(
    ("target", "spec"),
    [
        ("hf://ns/name/a/b.safetensors", HubSpec("ns/name", None, "a/b.safetensors")),
        ("hf://ns/name@v1/b.safetensors", HubSpec("ns/name", "v1", "b.safetensors")),
        ("hf://ns/name@refs/pr/3/b.safetensors", HubSpec("ns/name", "refs/pr/3", "b.safetensors")),
        ("hf://ns/name", HubSpec("ns/name")),
        ("ns/name", HubSpec("ns/name")),
        (
            "https://huggingface.co/ns/name/resolve/v1/b%20c.safetensors?download=true",
            HubSpec("ns/name", "v1", "b c.safetensors"),
        ),
        (
            "https://huggingface.co/ns/name/blob/main/b.safetensors",
            HubSpec("ns/name", "main", "b.safetensors"),
        ),
        ("ENDPOINT/ns/name/blob/main/b.safetensors", HubSpec("ns/name", "main", "b.safetensors")),
        ("name", None),
        ("a/b/c", None),
        ("../ns/name", None),
        ("./ns/name", None),
        ("/ns/name", None),
        ("ns/name.safetensors", None),
        ("made.here/typo", None),
        ("", None),
    ],
)
def test_addresses(hub: fake.Hub, tmp_path: Path, target: str, spec: HubSpec | None) -> None:
    (tmp_path / "made.here").mkdir()
    assert parse_spec(target.replace("ENDPOINT", hub.url)) == spec
    assert hub.seen == []


def test_what_is_here_is_not_looked_for_there(hub: fake.Hub, tmp_path: Path, sd1_factors) -> None:
    (tmp_path / "ns").mkdir()
    write_peft(sd1_factors, tmp_path / "ns" / "name")
    assert load_lora("ns/name").file.origin is None
    assert hub.seen == []


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("hf://ns/name/../../../etc/x.safetensors", 2),
        ("hf://ns/name/a/./x.safetensors", 2),
        ("hf://ns/name/a\\..\\x.safetensors", 2),
        ("hf://ns/name/a\x1b[2J\n.safetensors", 2),
        ("hf://ns/name/\u202ex.safetensors", 2),
        ("hf://ns/name@../../x/x.safetensors", 2),
        ("hf://ns/name@a b/x.safetensors", 2),
        ("hf://ns/name@..%2F..%2Fx/x.safetensors", 2),
        ("hf://ns", 2),
        ("hf://", 2),
        ("hf://datasets/ns/name/x.safetensors", 2),
        ("https://example.com/ns/name/resolve/main/x.safetensors", 2),
        ("https://huggingface.co/ns/name/settings", 2),
        ("https://huggingface.co/ns/name/resolve/main/%2e%2e/x.safetensors", 2),
        ("hf://ns/name/x.ckpt", 3),
        ("hf://ns/name/x.png", 3),
    ],
)
def test_hostile_addresses_reach_nothing(hub: fake.Hub, target: str, code: int) -> None:
    with pytest.raises(LorauditError) as caught:
        load_lora(target)
    assert (caught.value.exit_code, hub.seen) == (code, [])
    assert str(caught.value).isprintable() and caught.value.hint.isprintable()


@pytest.mark.parametrize("redirect", [False, True])
def test_a_whole_file(hub: fake.Hub, kohya: bytes, tmp_path: Path, redirect: bool) -> None:
    hub.files, hub.redirect = {"sub/ada.safetensors": kohya}, redirect
    local = load_lora(tmp_path / "made.safetensors")
    lora = load_lora("hf://ns/name@v1/sub/ada.safetensors")
    assert lora.file.origin == f"hf://ns/name@{fake.COMMIT}/sub/ada.safetensors"
    assert (lora.file.name, lora.file.sha256) == ("ada.safetensors", local.file.sha256)
    assert set(lora.factors) == set(local.factors)
    assert all(auth is None for place, _, _, auth in hub.seen if place == "storage")
    assert all(auth == f"Bearer {fake.TOKEN}" for place, _, _, auth in hub.seen if place == "hub")
    report = Report("0", target_of(lora))
    # GitLab's list has findings alone, and here is none.
    for render in (render for name, render in FORMATS.items() if name != "gitlab"):
        # Markdown keeps an address from becoming a link.
        text = unescape(render([report], reveal=False, width=120, color=False)).replace("<!-- -->", "")
        assert lora.file.origin in text
    # What is printed is an address, and the cache answers it without the network.
    hub.seen.clear()
    assert load_lora(lora.file.origin, offline=True).file == lora.file
    assert hub.seen == []


def test_a_repository_with_one(hub: fake.Hub, kohya: bytes) -> None:
    hub.files = {"README.md": b"hi", "ada.safetensors": kohya, "x.png": b""}
    assert load_lora("ns/name").file.origin == f"hf://ns/name@{fake.COMMIT}/ada.safetensors"
    hub.seen.clear()
    for target in ("ns/name", f"hf://ns/name@{fake.COMMIT}"):
        assert load_lora(target, offline=True).file.name == "ada.safetensors"
    with pytest.raises(LorauditError, match="not in the Hub cache"):
        load_lora("hf://ns/name@v1", offline=True)
    assert hub.seen == []


def test_a_peft_file_brings_its_configuration(hub: fake.Hub, tmp_path: Path, sd1_factors) -> None:
    write_peft(sd1_factors, tmp_path / "peft")
    unet = tmp_path / "peft" / "unet"
    hub.files = {f"unet/{file.name}": file.read_bytes() for file in unet.iterdir()}
    there, here = load_lora("ns/name"), load_lora(unet)
    assert there.unread == here.unread == ()
    assert {s: f.scale for s, f in there.factors.items()} == {s: f.scale for s, f in here.factors.items()}


def test_a_peft_file_without_one_says_so(hub: fake.Hub, tmp_path: Path, sd1_factors) -> None:
    write_peft(sd1_factors, tmp_path / "peft")
    hub.files = {"adapter_model.safetensors": (tmp_path / "peft/unet/adapter_model.safetensors").read_bytes()}
    (missing,) = load_lora("ns/name").unread
    assert missing.key == "adapter_config.json"


@pytest.mark.parametrize(
    ("names", "code", "words"),
    [
        (["a.safetensors", "b\x1b[2J.safetensors"], 2, r"a.safetensors, b\x1b[2J.safetensors"),
        (["../../x.safetensors"], 2, "not a path within a repository"),
        ([], 3, "holds no LoRA file"),
        (["x.bin", "README.md"], 3, "pickle"),
        (["model_index.json", "unet/x.safetensors"], 3, "whole diffusion model"),
    ],
)
def test_repositories_without_the_one(hub: fake.Hub, names: list[str], code: int, words: str) -> None:
    hub.files = dict.fromkeys(names, b"")
    with pytest.raises(LorauditError) as caught:
        load_lora("ns/name")
    assert caught.value.exit_code == code
    assert words in f"{caught.value} {caught.value.hint}"
    assert f"{caught.value}{caught.value.hint}".isprintable()
    assert len(hub.seen) == 1


@pytest.mark.parametrize(
    ("target", "status", "error_code", "words"),
    [
        ("hf://ns/none/x.safetensors", 200, "", "no such repository on the Hub, nor a local path: ns/none"),
        ("ns/none", 200, "", "check the name; a private repository needs HF_TOKEN"),
        (fake.ADDRESS, 403, "GatedRepo", "is gated"),
        (fake.ADDRESS, 401, "GatedRepo", "HF_TOKEN"),
        ("ns/name", 403, "", "check HF_TOKEN"),
        ("hf://ns/name@v9/ada.safetensors", 200, "", "has no revision v9"),
        ("hf://ns/name@v9", 200, "", "has no revision v9"),
        ("hf://ns/name/none.safetensors", 200, "", "ns/name has no file none.safetensors"),
        (fake.ADDRESS, 500, "", "cannot be reached"),
        (fake.ADDRESS, 429, "", "status 429"),
    ],
)
@pytest.mark.parametrize("load", [load_lora, lambda target: fetch_header(parse_spec(target))])
def test_refusals(hub: fake.Hub, load, target: str, status: int, error_code: str, words: str) -> None:
    hub.files, hub.status, hub.error_code = {"ada.safetensors": b"x"}, status, error_code
    with pytest.raises(LorauditError) as caught:
        load(target)
    assert caught.value.exit_code == 2
    assert words in f"{caught.value} {caught.value.hint}"
    assert f"{caught.value}{caught.value.hint}".isprintable()
    assert fake.TOKEN not in f"{caught.value}{caught.value.hint}"


@pytest.mark.parametrize("commit", [None, "../../../x", "main"])
def test_a_server_that_is_no_hub(hub: fake.Hub, commit: str | None) -> None:
    hub.files, hub.commit = {"ada.safetensors": b"x"}, commit
    for target in (fake.ADDRESS, "ns/name"):
        with pytest.raises(LorauditError, match="does not answer as the Hub does"):
            fetch_header(parse_spec(target))
    with pytest.raises(LorauditError, match="does not answer as the Hub does"):
        load_lora(fake.ADDRESS)
    assert not list(Path.cwd().rglob("*"))


@pytest.mark.usefixtures("hub")
def test_no_network(monkeypatch) -> None:
    from huggingface_hub import constants

    spec = HubSpec("ns/name", None, "ada.safetensors")
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    for load in (lambda: load_lora(fake.ADDRESS), lambda: load_lora("ns/name"), lambda: fetch_header(spec)):
        with pytest.raises(LorauditError, match="the Hub cannot be reached for ns/name") as caught:
            load()
        assert caught.value.exit_code == 2
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for load in (lambda: load_lora(fake.ADDRESS), lambda: load_lora("ns/name"), lambda: fetch_header(spec)):
        with pytest.raises(LorauditError, match="is not in the Hub cache") as caught:
            load()
        assert "HF_HUB_OFFLINE" in caught.value.hint


def test_a_download_that_breaks_off(hub: fake.Hub, kohya: bytes) -> None:
    hub.files, hub.redirect, hub.claimed_size = {"ada.safetensors": kohya}, True, len(kohya) + 1
    with pytest.raises(LorauditError, match="did not come through") as caught:
        load_lora(fake.ADDRESS)
    assert caught.value.exit_code == 2


def test_a_cache_that_cannot_be_written(hub: fake.Hub, kohya: bytes, tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    hub.files = {"ada.safetensors": kohya}
    with pytest.raises(LorauditError, match=f"cannot read {fake.ADDRESS}: Not a directory"):
        load_lora(fake.ADDRESS)


def test_the_cache_spares_the_request(hub: fake.Hub, kohya: bytes) -> None:
    hub.files, hub.redirect = {"ada.safetensors": kohya}, True
    spec = HubSpec("ns/name", None, "ada.safetensors")
    fetched = fetch_header(spec)
    load_lora(fake.ADDRESS)
    hub.seen.clear()
    assert fetch_header(spec) == fetched
    assert hub.gets() == []
    hub.seen.clear()
    assert fetch_header(spec, offline=True).data == fetched.data
    assert fetch_header(spec, offline=True).sha256 == fetched.sha256
    assert hub.seen == []


def test_a_file_that_repositories_share_keeps_its_hash(hub: fake.Hub, kohya: bytes, tmp_path: Path) -> None:
    """The cache keeps a file from Xet once for all repositories, under a hash that is not its SHA-256."""
    hub.files, hub.redirect = {"ada.safetensors": kohya}, True
    load_lora(fake.ADDRESS)
    (blob,) = (tmp_path / "cache" / "models--ns--name" / "blobs").iterdir()
    kept = tmp_path / "cache" / "blobs" / "ab" / ("ab" * 32)
    kept.parent.mkdir(parents=True)
    blob.replace(kept)
    blob.symlink_to(kept)
    got = fetch_header(HubSpec("ns/name", None, "ada.safetensors"), offline=True)
    assert got.sha256 == hashlib.sha256(kohya).hexdigest()


def test_a_card_in_the_cache_is_not_asked_for(hub: fake.Hub, kohya: bytes) -> None:
    hub.files = {"ada.safetensors": kohya, "README.md": b"---\nauthor: x\n---\n"}
    load_lora(fake.ADDRESS)
    assert any(request.endswith("README.md") for _, request, *_ in hub.seen)
    hub.seen.clear()
    load_lora(fake.ADDRESS)
    assert not any(request.endswith("README.md") for _, request, *_ in hub.seen)


def test_the_environment_of_the_hub_client_counts(hub: fake.Hub, kohya: bytes, tmp_path: Path) -> None:
    hub.files, hub.redirect = {"ada.safetensors": kohya}, True
    environment = {key: value for key, value in os.environ.items() if "OFFLINE" not in key}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "hf_another"}
    code = f"import sys; sys.argv = ['loraudit', 'inspect', '{hub.url}/ns/name/blob/main/ada.safetensors']\n"
    code += "from loraudit.cli import main; main()"

    def inspect(**extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=False,
            env=environment | extra,
            cwd=Path(__file__).parent.parent,
        )

    first = inspect()
    assert (first.returncode, first.stderr) == (0, "")
    assert {auth for place, _, _, auth in hub.seen if place == "hub"} == {"Bearer hf_another"}
    assert list((tmp_path / "home" / "hub").rglob("ada.safetensors"))
    hub.seen.clear()
    assert inspect(HF_HUB_OFFLINE="1").stdout == first.stdout
    assert hub.seen == []

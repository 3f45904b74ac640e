"""`loraudit doctor`: says what is there and what is not, without torch too, and its exit code follows."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

import loraudit.cards
from loraudit.cards import CLIP_REPO, CLIP_REVISION, FACE_FILE, FACE_RECORD, base_card, models_dir
from loraudit.cli.doctor import Mark, diagnose, diagnosis_text
from loraudit.cli.stored import State, examine, fetched, shipped
from tests.test_cli_cache import put, share

ROOT = Path(__file__).parent.parent
BLOCK = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {absent!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name in {absent!r} else real(name)
sys.argv = ['loraudit', 'doctor']
from loraudit.cli import main
main()
"""


def doctor(*absent: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in an installation without the packages `absent`."""
    code = BLOCK.format(absent=absent)
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=os.environ | environment
    )


@pytest.fixture
def models(tmp_path: Path, monkeypatch) -> Path:
    """A copy of `models/` to spoil, and empty caches."""
    copy = tmp_path / "models"
    shutil.copytree(models_dir(), copy)
    monkeypatch.setattr("loraudit.cli.stored.models_dir", lambda: copy)
    monkeypatch.setattr(loraudit.cards, "models_dir", lambda: copy)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    return copy


def marks() -> dict[str, Mark]:
    return {check.name: check.mark for check in diagnose().checks}


def test_without_torch() -> None:
    """The light install: no traceback, what is missing, how to get it."""
    done = doctor("torch", "diffusers")
    assert (done.returncode, done.stderr) == (4, "")
    assert "NO  packages" in done.stdout and "not installed: torch, diffusers" in done.stdout
    assert "pip install 'loraudit[attack]'" in done.stdout.replace("\n", " ")
    assert "ok  --depth metadata" in done.stdout and "ok  --depth weights" in done.stdout
    assert "NO  attacks, base tiny" in done.stdout
    assert "cannot run here" in done.stdout
    assert "torch sees" not in done.stdout, "nobody has asked torch"


def test_without_numpy() -> None:
    done = doctor("torch", "numpy", "huggingface_hub")
    assert (done.returncode, done.stderr) == (4, "")
    assert "NO  --depth weights" in done.stdout and "ok  --depth metadata" in done.stdout


def test_this_installation(models) -> None:
    diagnosis = diagnose()
    assert diagnosis.ready, diagnosis_text(diagnosis, width=100)
    found = {check.name: check for check in diagnosis.checks}
    assert found["attacks, base tiny"].mark is Mark.OK
    assert found["attacks, base sd14"].mark is Mark.NOTE
    assert "base sd14" in found["attacks, base sd14"].told
    text = diagnosis_text(diagnosis, width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert str(models) not in text, "no path of this machine"
    for stored in shipped():
        assert all(digest[:16] in text for digest in examine(stored).hashes.values())


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("base tiny", "tiny-sd/unet/diffusion_pytorch_model.safetensors"),
        ("encoder probe-tiny", "probe-tiny/model.safetensors"),
        ("face model tiny-face", "tiny-face/model.safetensors"),
        ("CLIP tiny-clip", "tiny-clip/vocab.json"),
    ],
)
def test_a_missing_file(models, name, file) -> None:
    (models / file).unlink()
    found = marks()
    assert found[name] is found["attacks, base tiny"] is Mark.NO
    assert not diagnose().ready


def test_a_damaged_file(models) -> None:
    path = models / "probe-tiny" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    broken = next(stored for stored in shipped() if stored.name == "encoder probe-tiny")
    assert examine(broken).state is State.DAMAGED
    assert "hash" in examine(broken).fault
    pointer = models / "tiny-sd" / "vae" / "diffusion_pytorch_model.safetensors"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    vae = examine(shipped()[0])
    assert vae.state is State.DAMAGED
    assert "LFS" in vae.fault


def test_the_whole_folder_is_missing(models, monkeypatch) -> None:
    shutil.rmtree(models)
    monkeypatch.undo()
    monkeypatch.setattr(loraudit.cards, "__file__", "/nowhere/loraudit/cards.py")
    diagnosis = diagnose()
    assert not diagnosis.ready
    assert "no models folder" in diagnosis_text(diagnosis, width=100)


def whole(data: bytes = b"") -> bytes:
    header = b"{}"
    return len(header).to_bytes(8, "little") + header + data


@pytest.mark.usefixtures("models")
def test_what_is_fetched(monkeypatch) -> None:
    hub, card = Path(constants.HF_HUB_CACHE), base_card("sd14")
    stored = next(one for one in fetched() if one.name == "base sd14")
    put(hub, card.where, card.revision or "", {"unet/config.json": b"{}"})
    assert examine(stored).state is State.PARTIAL
    rest = {name: whole() if "safetensors" in name else b"{}" for name in stored.files[1:]}
    put(hub, card.where, card.revision or "", rest)
    assert examine(stored).state is State.WHOLE
    put(hub, CLIP_REPO, CLIP_REVISION, {"open_clip_model.safetensors": whole()}, "main")
    clip = next(one for one in fetched() if one.name == "CLIP ViT-L/14")
    assert examine(clip).state is State.DAMAGED, "it is not the published file"
    monkeypatch.setattr("loraudit.cli.stored.CLIP_SHA256", hashlib.sha256(whole()).hexdigest())
    own = hub.parent / "own" / "loraudit"
    own.mkdir(parents=True)
    (own / FACE_FILE).write_bytes(whole())
    face = next(one for one in fetched() if one.name == "face model FaceNet")
    assert examine(face).state is State.DAMAGED, "it has no record of its hash"
    (own / FACE_RECORD).write_text(hashlib.sha256(whole()).hexdigest() + "\n")
    assert {examine(one).state for one in fetched() if "sd15" not in one.name} == {State.WHOLE}
    monkeypatch.setattr("loraudit.cli.doctor.available_memory", lambda: 64 * 2**30)
    sd14 = next(check for check in diagnose().checks if check.name == "attacks, base sd14")
    assert "encoder" in sd14.told and "train one" in sd14.advice
    # The cache names a file by its hash: a byte more, and it is another's.
    blob = stored.paths()["vae/diffusion_pytorch_model.safetensors"].resolve()
    blob.write_bytes(whole(b" "))
    assert examine(stored).state is State.DAMAGED
    damaged = next(check for check in diagnose().checks if check.name == "base sd14")
    assert "cache clear" in damaged.advice
    assert diagnose().ready, "not needed for the base that ships"


@pytest.mark.usefixtures("models")
def test_what_repositories_share_is_not_damaged(monkeypatch) -> None:
    """A file from Xet is kept under another hash than its SHA-256, which its link alone tells."""
    hub = Path(constants.HF_HUB_CACHE)
    folder = put(hub, CLIP_REPO, CLIP_REVISION, {"open_clip_model.safetensors": whole()}, "main")
    share(hub, folder, whole(), "ab" * 32)
    monkeypatch.setattr("loraudit.cli.stored.CLIP_SHA256", hashlib.sha256(whole()).hexdigest())
    clip = next(one for one in fetched() if one.name == "CLIP ViT-L/14")
    assert examine(clip).state is State.WHOLE
    (hub / "blobs" / "ab" / ("ab" * 32)).write_bytes(whole(b" "))
    assert examine(clip).state is State.DAMAGED


@pytest.mark.usefixtures("models")
def test_a_note_of_a_branch_that_is_no_text() -> None:
    hub = Path(constants.HF_HUB_CACHE)
    folder = put(hub, CLIP_REPO, CLIP_REVISION, {"open_clip_model.safetensors": whole()}, "main")
    (folder / "refs" / CLIP_REVISION).write_bytes(b"\xff")
    assert marks()["CLIP ViT-L/14"] is Mark.NOTE


@pytest.mark.usefixtures("models")
def test_a_gpu(monkeypatch) -> None:
    """There is none where this runs: torch is made to answer as it does where one is."""
    import torch

    def lost() -> None:
        raise RuntimeError("CUDA error: device is busy")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A card")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (2**30, 2**34))
    device = next(check for check in diagnose().checks if check.name == "device")
    assert device.mark is Mark.OK and "cuda, A card, 1.0 GiB of 16.0 GiB free" in device.told
    monkeypatch.setattr(torch.cuda, "mem_get_info", lost)
    device = next(check for check in diagnose().checks if check.name == "device")
    assert device.mark is Mark.NOTE and "--device cpu" in device.advice


@pytest.mark.usefixtures("models")
def test_too_little_memory(monkeypatch) -> None:
    monkeypatch.setattr("loraudit.cli.doctor.available_memory", lambda: 2**20)
    assert marks()["memory"] is Mark.NO
    assert not diagnose().ready

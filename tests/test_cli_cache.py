"""`loraudit cache`: what scans fetched is told and cleared, and not a byte more."""

import hashlib
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants, scan_cache_dir

from loraudit.caching import clear, kept
from loraudit.cards import CLIP_FILE, CLIP_REPO, FACE_FILE, base_card
from loraudit.cli import main

SD14 = base_card("sd14")
OTHER = "f" * 40
CLIP_COMMIT = "c" * 40


@pytest.fixture
def hub(tmp_path: Path, monkeypatch) -> Path:
    """An empty Hub cache, and a folder of loraudit's own beside it."""
    (tmp_path / "hub").mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    return tmp_path / "hub"


@pytest.fixture
def run(monkeypatch, capsys):
    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["loraudit", "cache", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return command


def put(hub: Path, repository: str, commit: str, files: dict[str, bytes], ref: str = "") -> Path:
    """A snapshot as huggingface_hub lays it out: links into `blobs`."""
    folder = hub / f"models--{repository.replace('/', '--')}"
    for name, data in files.items():
        blob = folder / "blobs" / hashlib.sha256(data).hexdigest()
        link = folder / "snapshots" / commit / name
        blob.parent.mkdir(parents=True, exist_ok=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        link.symlink_to(Path(*[".."] * (len(Path(name).parts) + 1), "blobs", blob.name))
    if ref:
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / ref).write_text(commit)
    return folder


def fill(hub: Path) -> Path:
    """What scans would have fetched; SD-1.4 in two revisions that share the VAE."""
    folder = put(hub, SD14.where, SD14.revision or "", {"unet/x": b"u" * 1000, "vae/x": b"v" * 10}, "main")
    put(hub, SD14.where, OTHER, {"vae/x": b"v" * 10, "unet/y": b"y" * 5})
    put(hub, CLIP_REPO, CLIP_COMMIT, {CLIP_FILE: b"c" * 100}, "main")
    put(hub, "ns/ada", OTHER, {"ada.safetensors": b"a"}, "main")
    own = hub.parent / "own" / "loraudit"
    own.mkdir(parents=True)
    (own / FACE_FILE).write_bytes(b"f" * 7)
    assert not scan_cache_dir(hub).warnings, "the layout is the Hub's own"
    return folder


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir() or path.is_symlink()}


@pytest.mark.usefixtures("hub")
def test_nothing_there(run) -> None:
    code, out, err = run()
    assert (code, err) == (0, "")
    assert "Nothing is kept" in out
    assert run("clear")[0] == 0


def test_info_touches_nothing(run, hub) -> None:
    fill(hub)
    before = files(hub.parent)
    code, out, err = run("info")
    assert (code, err) == (0, "")
    assert "base sd14" in out and SD14.where in out and "CLIP ViT-L/14" in out and "FaceNet" in out
    assert "base sd15" not in out
    assert files(hub.parent) == before


def test_clear_needs_a_word(run, hub) -> None:
    fill(hub)
    before = files(hub.parent)
    code, _, err = run("clear")
    assert code == 2
    assert "--yes" in err
    assert files(hub.parent) == before


def test_clear_deletes_that_alone(run, hub) -> None:
    folder = fill(hub)
    (folder / "blobs" / "half.incomplete").write_bytes(b"x")
    (hub.parent / "own" / "loraudit" / "notes.txt").write_text("mine")
    sizes = {one.name: one.size_bytes for one in kept()}
    assert sizes == {"base sd14": 1000, "CLIP ViT-L/14": 100, "face model FaceNet": 7}
    code, _, err = run("clear", "--yes")
    assert code == 0
    assert "deleted: base sd14, CLIP ViT-L/14, face model FaceNet" in err
    left = files(hub.parent)
    assert {name for name in left if "CompVis" not in name} == {
        "own/loraudit/notes.txt",
        "hub/models--ns--ada/refs/main",
        f"hub/models--ns--ada/snapshots/{OTHER}/ada.safetensors",
        f"hub/models--ns--ada/blobs/{hashlib.sha256(b'a').hexdigest()}",
    }
    assert (folder / "snapshots" / OTHER / "vae/x").read_bytes() == b"v" * 10, "shared with another revision"
    assert (folder / "snapshots" / OTHER / "unet/y").read_bytes() == b"y" * 5
    assert not (folder / "snapshots" / (SD14.revision or "")).exists()
    assert (folder / "blobs" / "half.incomplete").exists()
    assert len(list((folder / "blobs").iterdir())) == 3
    assert not (folder / "refs").exists()
    assert not scan_cache_dir(hub).warnings
    assert kept() == ()


def test_links_out_of_the_cache(run, hub, tmp_path) -> None:
    """Somebody may have put a file of their own where the cache would have one."""
    folder = fill(hub)
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(b"precious")
    link = folder / "snapshots" / (SD14.revision or "") / "unet/z"
    link.symlink_to(mine)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "w").write_bytes(b"w")
    (link.parent / "folder").symlink_to(elsewhere)
    assert run("clear", "--yes")[0] == 0
    assert mine.read_bytes() == b"precious"
    assert (elsewhere / "w").exists()
    assert not link.is_symlink()


def test_a_repository_kept_elsewhere_is_left(hub, tmp_path) -> None:
    folder = fill(hub)
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    assert "base sd14" not in {one.name for one in kept()}
    clear(kept())
    assert (tmp_path / "moved" / "snapshots" / (SD14.revision or "") / "unet/x").exists()


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_asks_on_a_terminal(run, hub, monkeypatch, answer) -> None:
    import io

    fill(hub)
    before = files(hub.parent)
    stdin = io.StringIO(answer)
    monkeypatch.setattr(stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdin", stdin)
    code, _, err = run("clear")
    assert code == 0
    assert "Delete these?" in err and "nothing was deleted" in err
    assert files(hub.parent) == before
    monkeypatch.setattr(sys, "stdin", stdin := io.StringIO("y\n"))
    monkeypatch.setattr(stdin, "isatty", lambda: True, raising=False)
    assert run("clear")[0] == 0
    assert kept() == ()

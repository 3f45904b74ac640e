"""`loraudit cache`: what scans fetched is told and cleared, and not a byte more."""

import hashlib
import shutil
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants, scan_cache_dir

from loraudit.cards import (
    CLIP_FILE,
    CLIP_REPO,
    CLIP_REVISION,
    FACE_FILE,
    FACE_RECORD,
    PRIOR_FOLDER,
    base_card,
)
from loraudit.cli import main
from loraudit.cli.cache import Contents, Kept, cache_text, clear, contents

SD14 = base_card("sd14")
OTHER = "f" * 40


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
    put(hub, CLIP_REPO, CLIP_REVISION, {CLIP_FILE: b"c" * 100}, "main")
    put(hub, "ns/ada", OTHER, {"ada.safetensors": b"a"}, "main")
    own = hub.parent / "own" / "loraudit"
    own.mkdir(parents=True)
    (own / FACE_FILE).write_bytes(b"f" * 7)
    (own / FACE_RECORD).touch()
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
    sizes = {one.name: one.size_bytes for one in contents().models}
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
    assert contents().models == ()


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
    naive = scan_cache_dir(hub).delete_revisions(SD14.revision or "")
    assert mine in naive.blobs, "the control: left alone, huggingface_hub would delete it"
    assert run("clear", "--yes")[0] == 0
    assert mine.read_bytes() == b"precious"
    assert (elsewhere / "w").exists()
    assert not link.is_symlink()


def test_a_repository_kept_elsewhere_is_left(hub, tmp_path) -> None:
    folder = fill(hub)
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    assert "base sd14" not in {one.name for one in contents().models}
    clear(contents().models)
    assert (tmp_path / "moved" / "snapshots" / (SD14.revision or "") / "unet/x").exists()


def test_a_snapshot_kept_elsewhere_is_left(hub, tmp_path) -> None:
    snapshot = fill(hub) / "snapshots" / (SD14.revision or "")
    snapshot.rename(tmp_path / "moved")
    (tmp_path / "moved" / "plain").write_bytes(b"p")
    snapshot.symlink_to(tmp_path / "moved")
    assert {one.name for one in contents().models} == {"CLIP ViT-L/14", "face model FaceNet"}
    clear(contents().models)
    assert (tmp_path / "moved" / "plain").exists()
    assert snapshot.is_symlink()


def test_the_same_commit_in_another_repository_is_left(hub) -> None:
    """A copy of a repository under another name has its commits."""
    fill(hub)
    copies = [put(hub, f"ns/copy{n}", SD14.revision or "", {"unet/x": b"u" * 1000}, "main") for n in range(8)]
    clear(contents().models)
    assert not (
        hub / f"models--{SD14.where.replace('/', '--')}" / "snapshots" / (SD14.revision or "")
    ).exists()
    for copy in copies:
        assert (copy / "snapshots" / (SD14.revision or "") / "unet/x").read_bytes() == b"u" * 1000
        assert (copy / "refs" / "main").exists()


def test_a_branch_named_like_the_pinned_commit_is_no_reason(hub) -> None:
    folder = put(hub, SD14.where, OTHER, {"unet/x": b"u"}, SD14.revision or "")
    put(hub, CLIP_REPO, OTHER, {CLIP_FILE: b"d" * 10}, CLIP_REVISION)
    assert {one.name: one.size_bytes for one in contents().models} == {}
    assert (folder / "snapshots" / OTHER / "unet/x").exists()


def test_the_last_revision_takes_the_folder(hub) -> None:
    folder = put(hub, SD14.where, SD14.revision or "", {"unet/x": b"u" * 10}, "main")
    (folder / "blobs" / "half.incomplete").write_bytes(b"x")
    clear(contents().models)
    assert not folder.exists()


def share(hub: Path, folder: Path, data: bytes, xet_hash: str) -> None:
    """Keep the blob `data` of a repository once for all, as huggingface_hub does with files from Xet."""
    blob = folder / "blobs" / hashlib.sha256(data).hexdigest()
    kept = hub / "blobs" / xet_hash[:2] / xet_hash
    kept.parent.mkdir(parents=True, exist_ok=True)
    (hub / "blobs" / ".huggingface-shared-blobs").write_text("1\n")
    blob.replace(kept)
    blob.symlink_to(Path("..", "..", "blobs", xet_hash[:2], xet_hash))
    with kept.with_name(f"{xet_hash}.refs").open("a") as references:
        references.write(f"{blob.relative_to(hub)}\n")


def test_what_repositories_share_goes_with_the_last(hub) -> None:
    folder = fill(hub)
    copy = put(hub, "ns/copy", OTHER, {"unet/x": b"u" * 1000}, "main")
    ours, both = "ab" * 32, "cd" * 32
    share(hub, folder, b"u" * 1000, both)
    share(hub, copy, b"u" * 1000, both)
    share(hub, hub / f"models--{CLIP_REPO.replace('/', '--')}", b"c" * 100, ours)
    assert not scan_cache_dir(hub).warnings, "the layout is the Hub's own"
    sizes = {one.name: one.size_bytes for one in contents().models}
    assert sizes == {"base sd14": 0, "CLIP ViT-L/14": 100, "face model FaceNet": 7}
    clear(contents().models)
    assert not (hub / "blobs" / ours[:2] / ours).exists()
    assert (copy / "snapshots" / OTHER / "unet/x").read_bytes() == b"u" * 1000


def test_a_corrupted_repository_is_told_and_left(run, hub) -> None:
    folder = fill(hub)
    foreign = put(hub, "ns/\x1b[2Jada", OTHER, {"ada.safetensors": b"a"}, "main")
    (foreign / "refs" / "v1").write_text("no such commit")
    (folder / "refs" / "v1").write_text("no such commit")
    put(hub, SD14.where, SD14.revision or "", {"unet/config.json": b"{}"})
    before = files(folder)
    code, out, _ = run("clear", "--yes")
    assert code == 0
    assert "base sd14 is in the Hub cache in a folder that huggingface_hub calls corrupted" in out.replace(
        "\n", " "
    )
    assert "CLIP ViT-L/14" in out and "ada" not in out and "\x1b" not in out
    assert files(folder) == before
    assert {one.name for one in contents().models} == set()
    assert (foreign / "snapshots" / OTHER / "ada.safetensors").exists()


def test_class_pictures_are_told_and_cleared(run, hub) -> None:
    fill(hub)
    folder = hub.parent / "own" / "loraudit" / PRIOR_FOLDER
    folder.mkdir()
    for name, size in ((f"{'0' * 64}.safetensors", 300), (f"{'0' * 64}.sha256", 65), ("notes.txt", 9)):
        (folder / name).write_bytes(b"x" * size)
    sizes = {one.name: one.size_bytes for one in contents().models}
    assert sizes["class pictures of trainings"] == 365
    assert "class pictures of trainings" in run()[1]
    assert run("clear", "--yes")[0] == 0
    assert [path.name for path in folder.iterdir()] == ["notes.txt"], "what is not ours is left"
    (folder / f"{'a' * 64}.safetensors").touch()
    (folder / "notes.txt").unlink()
    assert run("clear", "--yes")[0] == 0 and not folder.parent.exists()


def test_a_cache_that_cannot_be_read(run, hub) -> None:
    """A note of another program's that is no text stops huggingface_hub; what is elsewhere still goes."""
    folder = fill(hub)
    (hub / "models--ns--ada" / "refs" / "main").write_bytes(b"\xff")
    before = files(folder)
    code, out, err = run("clear", "--yes")
    assert code == 0
    assert "The Hub cache cannot be read" in out and "Traceback" not in err
    assert "deleted: face model FaceNet" in err
    assert files(folder) == before


def test_what_the_system_refuses_is_an_error(run, hub, monkeypatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise PermissionError

    fill(hub)
    monkeypatch.setattr(shutil, "rmtree", refuse)
    code, _, err = run("clear", "--yes")
    assert code == 2
    assert "cannot delete base sd14: Permission denied" in err and "Traceback" not in err


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
    assert contents().models == ()


@pytest.mark.parametrize("width", [60, 100])
def test_the_table_says_what_it_was_given(width: int) -> None:
    """No name is markup, none reaches the terminal as a command, and no line is longer than the terminal."""
    one = Kept("base [bold]x[/]", "Hub cache, ns/:smile:\x1b[2J " + "word " * 40, 5 * 10**9, lambda: None)
    text = cache_text(Contents((one, one), ("A fault \x1b[2J" + " and more" * 20,)), width=width)
    assert "base [bold]x[/]" in text and ":smile:" in text
    assert "\x1b" not in text and r"\x1b[2J" in text
    assert "5.00 GB" in text and "10.00 GB  in all" in text
    assert max(map(len, text.splitlines())) <= width

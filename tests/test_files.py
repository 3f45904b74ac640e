"""Files are written whole or not at all, in one place, and read up to a limit."""

import ast
import errno
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import loraudit
from loraudit.errors import LorauditError
from loraudit.files import read_bounded, read_within, replacing, write_atomic

PACKAGE = Path(loraudit.__file__).parent


def full(_descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"before")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LorauditError, match="No space left"):
        write_atomic(path, b"after")
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_permissions_and_links(tmp_path: Path) -> None:
    write_atomic(tmp_path / "private", b"x", 0o600)
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_atomic(tmp_path / "link", b"x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"x"
    write_atomic(Path(os.devnull), b"x")
    assert not Path(os.devnull).is_file()


def test_files_that_belong_together_are_replaced_together(tmp_path: Path, monkeypatch) -> None:
    old = {name: name.encode() for name in ("a", "b")}
    paths = [tmp_path / name for name in old]

    def write(text: bytes, stop: type[BaseException] | None = None) -> None:
        with replacing(*paths) as temporaries:
            assert {path.parent for path in temporaries} == {tmp_path}
            temporaries[0].write_bytes(text)
            if stop is not None:
                raise stop
            temporaries[1].write_bytes(text)

    for path in paths:
        path.write_bytes(old[path.name])
    for stop, seen in ((KeyboardInterrupt, KeyboardInterrupt), (PermissionError, PermissionError)):
        with pytest.raises(seen):
            write(b"half", stop)
    synced = []

    def full_at_the_second(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) > 1:
            full(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_at_the_second)
        with pytest.raises(OSError, match="No space left"):
            write(b"new")
    assert len(synced) == 2
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == old
    write(b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys(old, b"new")


def test_a_new_folder_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    def write(stop: bool) -> None:
        with replacing(tmp_path / "new") as (folder,):
            folder.mkdir()
            (folder / "a").write_bytes(b"x")
            if stop:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(stop=True)
    assert list(tmp_path.iterdir()) == []
    write(stop=False)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["new", "new/a"]
    with pytest.raises(IsADirectoryError, match="it is a folder"):
        write(stop=False)


@given(size=st.integers(0, 40), most=st.integers(0, 40))
def test_a_file_is_read_up_to_its_limit(tmp_path_factory, size: int, most: int) -> None:
    path = tmp_path_factory.mktemp("read") / "file"
    path.write_bytes(b"x" * size)
    if size <= most:
        assert read_within(path, most) == read_bounded(path, "it", most) == b"x" * size
        return
    with pytest.raises(OSError) as caught:  # noqa: PT011 (the number says which)
        read_within(path, most)
    assert caught.value.errno == errno.EFBIG
    with pytest.raises(LorauditError, match=r"it .* is larger than"):
        read_bounded(path, "it", most)


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, number in (("pipe", errno.EINVAL), ("gone", errno.ENOENT)):
        with pytest.raises(OSError) as caught:  # noqa: PT011 (the number says which)
            read_within(tmp_path / name, 10)
        assert caught.value.errno == number and caught.value.strerror


HANDS = {"write_text", "write_bytes", "writelines", "rename", "savefig"}
"""Methods that write to a path, or move what was written."""
BY_HAND = {
    ("files.py", "writelines"),
    # To the temporary paths of `replacing`.
    ("encoder/checkpoint.py", "write_bytes"),
    ("scores/facenet.py", "write_bytes"),
    ("training/prior.py", "write_bytes"),
    ("training/prior.py", "write_text"),
    # Figures, which are drawn again from what was kept.
    ("training/train_encoder.py", "savefig"),
    ("bench/attacks.py", "savefig"),
    ("bench/verdict.py", "savefig"),
}


def written_by_hand(source: str) -> set[str]:
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    called = {call.func.attr for call in calls if isinstance(call.func, ast.Attribute)}
    return called & HANDS | {"part" for ending in (".part", ".partial") if f'{ending}"' in source}


def test_one_place_writes_files() -> None:
    assert written_by_hand('path.with_suffix(".part").write_text("x")') == {"part", "write_text"}
    sources = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    found = {
        (name, call)
        for name, path in sources.items()
        if not name.startswith("models/")
        for call in written_by_hand(path.read_text(encoding="utf-8"))
    }
    assert found == BY_HAND

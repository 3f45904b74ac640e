"""`loraudit cache`: what is kept of the models that loraudit fetches, and taking out just that.

Of the Hub's cache, which other programs share, one snapshot of each repository is concerned: the commit that
loraudit pins, and of it what no other snapshot uses. What a link leads to outside the cache is not touched.
"""

import os
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loraudit.cards import cache_folder
from loraudit.errors import LorauditError
from loraudit.stock import Stored, fetched
from loraudit.text import clean

__all__ = ["Kept", "cache_text", "clear", "kept"]

_FACE: Final = "*vggface2*"
"""The face model, whole or half fetched, in loraudit's own folder."""
_OTHERS: Final = (
    "LoRAs fetched from the Hub are in the same Hub cache, and 'loraudit cache' leaves them there; "
    "'hf cache' lists all of it."
)


@dataclass(frozen=True)
class Kept:
    """What is kept of one model."""

    name: str
    where: str
    files: tuple[Path, ...]
    """What goes when it is cleared: files and links, none that anything else uses."""
    folders: tuple[Path, ...]
    """Which go too, once they are empty; inner ones first."""
    size_bytes: int


def kept() -> tuple[Kept, ...]:
    """Of each fetched model what is there, if anything is."""
    found = (_snapshot(stored) if stored.repository else _own(stored) for stored in fetched())
    return tuple(one for one in found if one.files)


def clear(models: Sequence[Kept]) -> None:
    """Delete them. Raises `LorauditError` where the system does not allow it."""
    for one in models:
        try:
            for file in one.files:
                file.unlink(missing_ok=True)
        except OSError as error:
            raise LorauditError(
                f"cannot delete {clean(one.name)}: {error.strerror}", "check the permissions of the cache"
            ) from None
        for folder in one.folders:
            with suppress(OSError):  # not empty: it holds what is not ours
                folder.rmdir()


def cache_text(models: Sequence[Kept], *, width: int) -> str:
    """What is there and how large, in at most `width` columns."""
    if not models:
        return "Nothing is kept: no model that loraudit fetches is on this machine.\n"
    names = max(len(one.name) for one in models)
    lines = [f"{_size(one.size_bytes):>9}  {one.name:<{names}}  {clean(one.where)}" for one in models]
    lines += [f"{_size(sum(one.size_bytes for one in models)):>9}  in all", ""]
    return "".join(f"{line}\n" for line in [*lines, *textwrap.wrap(_OTHERS, max(40, width))])


def _own(stored: Stored) -> Kept:
    folder = cache_folder()
    files = tuple(sorted(path for path in folder.glob(_FACE) if path.is_file() or path.is_symlink()))
    size = sum(path.lstat().st_size for path in files)
    return Kept(stored.name, stored.where, files, (folder,), size)


def _snapshot(stored: Stored) -> Kept:
    """The snapshot of a Hub repository, with the blobs that it alone uses."""
    nothing = Kept(stored.name, stored.where, (), (), 0)
    repository, snapshot = stored.repository, stored.folder
    snapshots, blobs = snapshot.parent, snapshot.parent.parent / "blobs"
    if repository is None or not snapshot.is_dir() or _is_link(repository, snapshot, blobs):
        return nothing
    entries = tuple(_entries(snapshot))
    files = [path for path in entries if path.is_symlink() or not path.is_dir()]
    others = [other for other in snapshots.iterdir() if other.name != snapshot.name]
    used = {_blob(path, blobs) for other in others for path in _entries(other)}
    own = {blob for path in files if (blob := _blob(path, blobs)) is not None} - used
    there = [blob for blob in sorted(own) if blob.is_file() and not blob.is_symlink()]
    size = sum(path.stat().st_size for path in there)
    size += sum(path.stat().st_size for path in files if not path.is_symlink())
    refs = [ref for ref in _entries(repository / "refs") if ref.is_file() and _says(ref, snapshot.name)]
    folders = [path for path in entries if path.is_dir() and not path.is_symlink()]
    inner_first = sorted([*folders, snapshot], key=lambda path: len(path.parts), reverse=True)
    rest = (snapshots, blobs, repository / "refs", repository)
    # The links go before what they lead to: a process that stops half way leaves no dangling ones.
    gone = (*files, *refs, *there)
    return Kept(stored.name, stored.where, gone, (*inner_first, *rest), size)


def _is_link(*paths: Path) -> bool:
    """Whether somebody put one of the folders elsewhere; then it is theirs."""
    return any(path.is_symlink() for path in paths)


def _entries(folder: Path) -> Iterator[Path]:
    """All that is in `folder`; links to folders are not followed."""
    for root, folders, files in os.walk(folder):
        yield from (Path(root, name) for name in (*folders, *files))


def _blob(path: Path, blobs: Path) -> Path | None:
    """The file in `blobs` that the link `path` leads to, None if it leads elsewhere or is none."""
    if not path.is_symlink():
        return None
    target = Path(os.path.normpath(path.parent / path.readlink()))
    return target if target.parent == Path(os.path.normpath(blobs)) else None


def _says(ref: Path, commit: str) -> bool:
    try:
        return ref.read_text(encoding="ascii").strip() == commit
    except (OSError, ValueError):
        return False


def _size(size: int) -> str:
    return f"{size / 10**9:.2f} GB" if size >= 10**9 else f"{size / 10**6:.1f} MB"

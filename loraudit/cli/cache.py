"""The command `cache`: show or delete the models that scans fetched, and the class pictures of trainings.

huggingface_hub counts and deletes in its own cache, which other programs share. Two limits are set here to
each deletion. A deletion covers one repository, since another may hold the same commit. Only files within
that repository are deleted, since huggingface_hub follows a snapshot's link to a file outside. The folder of
a repository without another revision goes whole, interrupted downloads too.
"""

import errno
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from loraudit.cards import PRIOR_FOLDER, cache_folder
from loraudit.cli.console import emit, say, width
from loraudit.cli.stored import Stored, fetched
from loraudit.errors import LorauditError
from loraudit.text import clean

if TYPE_CHECKING:
    from huggingface_hub import CachedRepoInfo, DeleteCacheStrategy, HFCacheInfo

__all__ = ["Contents", "Kept", "cache", "cache_text", "clear", "contents"]

EXAMPLES: Final = ("loraudit cache", "loraudit cache clear --yes")
_FACE: Final = "*vggface2*"
"""Pattern of the face model's file, whole or half fetched, in loraudit's own folder."""
_PICTURES: Final = "[0-9a-f]" * 64 + ".s*"
"""Pattern of class pictures and their hashes, in a folder of loraudit's own folder."""
_OTHERS: Final = (
    "LoRAs fetched from the Hub are in the same Hub cache, and 'loraudit cache' leaves them there; "
    "'hf cache ls' lists all of it."
)


class CacheAction(StrEnum):
    """The values of `action`."""

    info = "info"
    clear = "clear"


@dataclass(frozen=True)
class Kept:
    """One fetched model, or all class pictures, on this machine."""

    name: str
    where: str
    size_bytes: int
    """Bytes that its deletion frees."""
    delete: Callable[[], None]
    """Function that deletes the model and nothing else; raises `OSError` where the system refuses."""


@dataclass(frozen=True)
class Contents:
    """The models of loraudit that the caches hold."""

    models: tuple[Kept, ...]
    faults: tuple[str, ...] = ()
    """A sentence for each part of the Hub cache that cannot be read, and is left alone."""


def cache(
    action: Annotated[
        CacheAction, typer.Argument(help="Show what is kept on this machine, or delete it.")
    ] = CacheAction.info,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
) -> None:
    """Show or clear downloaded models and kept class pictures."""
    found = contents()
    models = found.models
    emit(cache_text(found, width=width(None)), None)
    if action is CacheAction.info or not models:
        return
    if not yes:
        if not sys.stdin.isatty():
            raise LorauditError("nobody is there to ask", "give --yes to delete without asking")
        try:
            agreed = typer.confirm("Delete these?", err=True)
        except typer.Abort:
            agreed = False
        if not agreed:
            say("nothing was deleted")
            return
    clear(models)
    say(f"deleted: {', '.join(one.name for one in models)}")


def contents() -> Contents:
    """Find each fetched model that is on this machine, and the class pictures."""
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    models, faults = [], []
    hub: HFCacheInfo | None = None
    try:
        hub = scan_cache_dir(constants.HF_HUB_CACHE)
    except CacheNotFound:
        pass
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "a file in it is not sound"
        faults.append(f"The Hub cache cannot be read ({why}), and what it holds is not listed.")
    for stored in fetched():
        one = _own(stored) if stored.repository is None else _cached(stored, hub)
        if one is not None:
            models.append(one)
        elif hub is not None and stored.repository is not None and _is_unread(stored, hub):
            faults.append(
                f"{stored.name} is in the Hub cache in a folder that huggingface_hub calls corrupted, and is "
                f"left alone. Delete the folder of {stored.repository} there to be rid of it."
            )
    pictures = _class_pictures()
    return Contents((*models, *([] if pictures is None else [pictures])), tuple(faults))


def clear(models: Sequence[Kept]) -> None:
    """Delete `models`. Raises `LorauditError` where the system does not allow it."""
    for one in models:
        try:
            one.delete()
        except OSError as error:
            raise LorauditError(
                f"cannot delete {clean(one.name)}: {error.strerror}", "check the permissions of the cache"
            ) from None


def cache_text(found: Contents, *, width: int) -> str:
    """Lay out name, place and size of each model, in at most `width` columns."""
    from loraudit.cli.tables import columns, plain_text

    faults = [clean(fault, 300) for fault in found.faults]
    if not found.models:
        nothing = "Nothing is kept: no model that loraudit fetches is on this machine."
        return plain_text(faults or [nothing], width=width)
    table = columns(9, 0, 0)
    table.columns[0].justify = "right"
    for one in found.models:
        table.add_row(_size(one.size_bytes), one.name, clean(one.where))
    table.add_row(_size(sum(one.size_bytes for one in found.models)), "in all")
    return plain_text([table, "", *faults, _OTHERS], width=width)


def _own(stored: Stored) -> Kept | None:
    """Find the face model in loraudit's own folder."""
    folder = cache_folder()
    files = [path for path in sorted(folder.glob(_FACE)) if path.is_file() or path.is_symlink()]

    def delete() -> None:
        for file in files:
            file.unlink(missing_ok=True)
        with suppress(OSError):  # not empty: it holds what is not loraudit's
            folder.rmdir()

    size = sum(path.lstat().st_size for path in files)
    return Kept(stored.name, stored.where, size, delete) if files else None


def _class_pictures() -> Kept | None:
    """Find the class pictures of trainings in loraudit's own folder."""
    folder = cache_folder() / PRIOR_FOLDER
    files = [] if folder.is_symlink() else [path for path in sorted(folder.glob(_PICTURES)) if path.is_file()]

    def delete() -> None:
        for file in files:
            file.unlink(missing_ok=True)
        with suppress(OSError):  # not empty: it holds what is not loraudit's
            folder.rmdir()
            folder.parent.rmdir()

    size = sum(path.lstat().st_size for path in files)
    return Kept("class pictures of trainings", "loraudit's cache", size, delete) if files else None


def _cached(stored: Stored, hub: "HFCacheInfo | None") -> Kept | None:
    """Find the revision of a model that loraudit uses in the Hub cache."""
    if hub is None or (repository := _repository(stored, hub)) is None:
        return None
    # A branch may have the name of a commit and is not looked up.
    used = next((one for one in repository.revisions if one.commit_hash == stored.revision), None)
    if used is None or used.snapshot_path.is_symlink():
        return None
    root = repository.repo_path
    within = {
        file
        for file in used.files
        if file.blob_path.parent == root / "blobs" or used.snapshot_path in file.blob_path.parents
    }
    narrowed = replace(
        repository, revisions=repository.revisions - {used} | {replace(used, files=frozenset(within))}
    )
    plan = replace(hub, repos=frozenset({narrowed})).delete_revisions(used.commit_hash)
    return Kept(stored.name, stored.where, plan.expected_freed_size, lambda: _carry_out(plan, root))


def _repository(stored: Stored, hub: "HFCacheInfo") -> "CachedRepoInfo | None":
    """Find the repository of a model; None if its folders are links, which somebody else made."""
    for repository in hub.repos:
        if (repository.repo_type, repository.repo_id) == ("model", stored.repository):
            root = repository.repo_path
            moved = any(path.is_symlink() for path in (root, root / "snapshots", root / "blobs"))
            return None if moved else repository
    return None


def _is_unread(stored: Stored, hub: "HFCacheInfo") -> bool:
    """Tell whether the cache has files of a model in a repository that the scan left out."""
    known = {repository.repo_id for repository in hub.repos if repository.repo_type == "model"}
    return stored.repository not in known and bool(stored.paths())


def _carry_out(plan: "DeleteCacheStrategy", root: Path) -> None:
    """Delete what `plan` names in the repository at `root`. Raises `OSError` if any of it is still there."""
    from huggingface_hub.utils import logging

    # huggingface_hub warns, with a traceback, of each file that it may not delete, and goes on.
    logging.get_logger().setLevel("ERROR")
    plan.execute()
    named = (*plan.repos, *plan.snapshots, *plan.refs, *plan.blobs)
    if any(os.path.lexists(path) for path in named):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    with suppress(OSError):  # not empty: another revision has a name there
        (root / "refs").rmdir()


def _size(size: int) -> str:
    return f"{size / 10**9:.2f} GB" if size >= 10**9 else f"{size / 10**6:.1f} MB"

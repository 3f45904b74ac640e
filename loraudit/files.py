"""Files that are written whole or not at all, read up to a limit, and hashed."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from loraudit.errors import LorauditError
from loraudit.text import clean

__all__ = [
    "check_writable",
    "file_sha256",
    "read_bounded",
    "read_within",
    "replacing",
    "unwritable",
    "write_atomic",
]

_BLOCK = 1 << 20


def read_bounded(path: Path, what: str, most: int) -> bytes:
    """Read the file at `path`, called `what` in errors.

    Raises `LorauditError` if it is missing, is no regular file or has more than `most` bytes.
    """
    shown = f"{what} {clean(str(path), 300)}"
    try:
        return read_within(path, most)
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise LorauditError(
                f"{shown} is larger than {most // 1000} kB", "is it the right file?"
            ) from None
        if error.errno == errno.EINVAL:
            raise LorauditError(f"{shown} is not a regular file", "name a file") from None
        raise LorauditError(f"cannot read {shown}: {error.strerror}", "check the path") from None


def read_within(path: Path, most: int) -> bytes:
    """Read the file at `path`, for a caller that words its own errors.

    Raises `OSError`, with `EFBIG` if the file has more than `most` bytes, with `EINVAL` if it is no regular
    file.
    """
    # Opening a pipe would wait for its other end.
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is not a regular file")
    with path.open("rb") as file:
        # A file of more bytes is not read: it may be larger than the memory.
        larger = os.fstat(file.fileno()).st_size > most
        data = b"" if larger else file.read(most + 1)
    if larger or len(data) > most:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    return data


def file_sha256(*paths: Path, starts: Sequence[int] = ()) -> str:
    """Compute the SHA-256 in hex of the bytes of `paths`, one after another.

    `starts` are the first bytes to hash, one for each path; empty: 0. Raises `OSError`.
    """
    # OpenSSL takes a fiftieth of a short command's time to load.
    import hashlib

    digest = hashlib.sha256()
    for path, start in zip(paths, starts or [0] * len(paths), strict=True):
        with path.open("rb") as file:
            file.seek(start)
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def write_atomic(path: Path, data: bytes | Iterable[bytes], mode: int = 0o666) -> None:
    """Write `data` to `path`, whole or not at all, by way of a temporary file beside `path`.

    An error that the blocks of `data` raise leaves nothing behind either. `mode` are the permissions before
    the umask. A link is followed; a device or pipe is written to directly. Raises `LorauditError` if writing
    fails.
    """
    blocks = (data,) if isinstance(data, bytes) else data
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            with path.open("wb") as device:
                device.writelines(blocks)
            return
        with replacing(path) as (temporary,):
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(blocks)
    except OSError as error:
        raise unwritable(path, error) from None


@contextlib.contextmanager
def replacing(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """Yield a temporary path beside each of `paths`; at the end it replaces that path.

    Nothing is replaced before everything is on the disk, and nothing at all after an error in the block. A
    folder may be written where there is none yet. A link is followed. Raises `OSError`, for a caller that
    words its own errors.
    """
    targets = [Path(os.path.realpath(path)) for path in paths]
    temporaries = tuple(_beside(target) for target in targets)
    try:
        yield temporaries
        for temporary in temporaries:
            if temporary.is_file():
                with temporary.open("r+b") as file:
                    os.fsync(file.fileno())
        for temporary, target in zip(temporaries, targets, strict=True):
            temporary.replace(target)
    finally:
        for temporary in temporaries:
            shutil.rmtree(temporary, ignore_errors=True)
            with contextlib.suppress(OSError):
                temporary.unlink()


def check_writable(path: Path) -> None:
    """Raise the `LorauditError` that `write_atomic` would raise, as far as it can be told before.

    A file beside `path` is made and removed: permissions alone do not tell whether a disk can be written.
    """
    try:
        temporary = _beside(Path(os.path.realpath(path)))
        if not path.exists() or path.is_file():
            try:
                os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            finally:
                temporary.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path, error) from None


def _beside(path: Path) -> Path:
    """Make up a name for a temporary file in the folder of `path`. Raises `OSError` if `path` is a folder."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    return path.with_name(f".{path.name[:40]}.{os.urandom(8).hex()}.tmp")


def unwritable(path: Path, error: OSError) -> LorauditError:
    """Make the error for a `path` that was not written, with another way as its hint."""
    return LorauditError(
        f"cannot write {clean(str(path), 300)}: {error.strerror}", "choose another path with -o"
    )

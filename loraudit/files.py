"""A file that is there whole or not at all."""

import contextlib
import errno
import os
from collections.abc import Iterable
from pathlib import Path

from loraudit.errors import LorauditError
from loraudit.text import clean

__all__ = ["check_writable", "read_bounded", "unwritable", "write_atomic"]


def read_bounded(path: Path, what: str, most: int) -> bytes:
    """The bytes of the file at `path`, called `what` in errors.

    Raises `LorauditError` if it is not there, is no regular file or has more than `most` bytes.
    """
    shown = f"{what} {clean(str(path), 300)}"
    try:
        # Opening a pipe would wait for its other end.
        if path.exists() and not path.is_file():
            raise LorauditError(f"{shown} is not a regular file", "name a file")
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise LorauditError(f"cannot read {shown}: {error.strerror}", "check the path") from None
    if len(data) > most:
        raise LorauditError(f"{shown} is larger than {most // 1000} kB", "is it the right file?")
    return data


def write_atomic(path: Path, data: bytes | Iterable[bytes], mode: int = 0o666) -> None:
    """Write `data` to `path` by way of a temporary file beside it, so that no half of it is ever seen there.

    An error that the blocks of `data` raise leaves nothing behind either. `mode` are the permissions before
    the umask. A link is followed; a device or pipe is written to as it is. Raises `LorauditError` if that
    fails.
    """
    path = Path(os.path.realpath(path))
    blocks = (data,) if isinstance(data, bytes) else data
    temporary = _beside(path)
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as device:
                device.writelines(blocks)
            return
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.writelines(blocks)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path, error) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def check_writable(path: Path) -> None:
    """Raise the `LorauditError` that `write_atomic` would raise, as far as that can be told before.

    A file beside `path` is made and removed: permissions alone do not tell whether a disk can be written.
    """
    path = Path(os.path.realpath(path))
    temporary = _beside(path)
    try:
        if not path.exists() or path.is_file():
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise unwritable(path, error) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _beside(path: Path) -> Path:
    """A name for a temporary file in the folder of `path`."""
    if path.is_dir():
        raise unwritable(path, IsADirectoryError(errno.EISDIR, "it is a folder"))
    return path.with_name(f".{path.name[:40]}.{os.urandom(8).hex()}.tmp")


def unwritable(path: Path, error: OSError) -> LorauditError:
    """Why `path` was not written, as an error that names another way."""
    return LorauditError(
        f"cannot write {clean(str(path), 300)}: {error.strerror}", "choose another path with -o"
    )

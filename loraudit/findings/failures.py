"""Exceptions as a report and the command line tell them; words of files and folders stay out."""

import errno
import os
import re
from pathlib import Path
from typing import Final

from loraudit.errors import INSTALL, Incomplete, InternalError, LorauditError
from loraudit.text import clean

__all__ = ["reported"]

_REFUSALS: Final = {
    errno.EACCES, errno.EPERM, errno.EIO, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTCONN, errno.ESTALE,
}  # fmt: skip
"""Errors by which a file system refuses a path, none of them a bug."""

_NO_ROOM: Final = re.compile(r"[Cc]annot allocate memory|failed to map segment|out of memory")
"""Words of the loader of libraries where there is no memory for one."""


def reported(error: Exception) -> LorauditError:
    """Return `error` as a report tells it; a bug becomes an `InternalError` without the exception's words."""
    if isinstance(error, LorauditError):
        return error
    if isinstance(error, MemoryError) or (isinstance(error, ImportError) and _NO_ROOM.search(str(error))):
        return Incomplete("not enough memory", "close other programs, or use a machine with more memory")
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return LorauditError("no space left on the disk", "make room, or write elsewhere")
    if isinstance(error, OSError) and error.errno in _REFUSALS:
        # Reports must not name the user's folders.
        named = Path(os.fsdecode(error.filename)).name if isinstance(error.filename, str | bytes) else ""
        name = clean(named or "a file")
        return LorauditError(f"cannot read {name}: {error.strerror}", "check the path and its permissions")
    if isinstance(error, ImportError):
        package = _package(error)
        if package != "loraudit":
            return Incomplete(f"{package} cannot be loaded", INSTALL)
    bug = InternalError(
        f"internal error ({type(error).__name__})", "this is a bug in loraudit; please report it"
    )
    bug.__cause__ = error
    return bug


def _package(error: ImportError) -> str:
    """Name the package that cannot be loaded; of torch's `_C` the import tells only the file."""
    name = (error.name or "").partition(".")[0]
    if name.startswith("_") and error.path:
        name = Path(error.path).parent.name
    return name or "a package that attacks need"

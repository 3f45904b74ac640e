"""A small file of the user's own, read whole."""

from pathlib import Path

from loraudit.errors import LorauditError
from loraudit.lora.text import clean

__all__ = ["read_bounded"]


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

"""Words that became names of tensors: learned tokens, bundled embeddings."""

import re
from collections.abc import Collection
from typing import Final

from loraudit.metadata.names import subject

__all__ = ["embedded", "odd_names", "token"]

_PLAIN: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz."
_PLAIN_NAME: Final = re.compile(r"[\w.]*", re.ASCII)
_PLAIN_OR_MASKED: Final = re.compile(r"\w*…?\w*", re.ASCII)
"""Piece of a layer's name, whole or with a secret in it that was masked."""
_BUNDLED: Final = "bundle_emb."
_ANGLES: Final = re.compile(r"<([^<>\n]{1,100})>")
_APART: Final = re.compile(r"[.:/|]")
_EMBEDDED: Final = "<embed>"
"""Value that the trainer of Pivotal Tuning gives to the key of a learned token."""


def odd_names(tensors: Collection[str]) -> list[str]:
    """List the names that hold other characters than letters of ASCII, digits, dots and lines."""
    # A file holds thousands of plain names, and all are looked at together first.
    if not "".join(tensors).encode("utf-8", "replace").translate(None, _PLAIN):
        return []
    return [name for name in tensors if not _PLAIN_NAME.fullmatch(name)]


def embedded(tensors: Collection[str]) -> list[str]:
    """List the words of embeddings in the file, sorted.

    OneTrainer names them `bundle_emb.<word>.string_to_param`. Others name the tensor by the token itself:
    `<word>`. No layer of a model has a name with other characters than letters, digits, dots and lines.
    """
    found = set()
    if _BUNDLED in "\n".join(tensors):
        found = {name.split(".")[1] for name in tensors if name.startswith(_BUNDLED)}
    for name in odd_names(tensors):
        if not name.startswith(_BUNDLED):
            pieces = (piece for piece in _APART.split(name) if not _PLAIN_OR_MASKED.fullmatch(piece))
            found |= set(_ANGLES.findall(name) or filter(subject, pieces))
    return sorted(filter(None, found))


def token(key: str, text: str) -> str:
    """Take the learned token that the metadata key `key` is, `<word>`; empty if it is none."""
    angles = _ANGLES.fullmatch(key.strip())
    if angles:
        return angles[1]
    return key.strip() if text.strip() == _EMBEDDED else ""

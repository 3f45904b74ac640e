"""Hashes that tell files apart: of all their bytes, or of their tensors alone, whatever the header says."""

import hashlib
from pathlib import Path

from loraudit.lora.file.header import read_header

__all__ = ["file_sha256", "tensor_sha256"]

_BLOCK = 1 << 20


def file_sha256(*paths: Path) -> str:
    """Compute the SHA-256 in hex of the bytes of `paths`, one after another."""
    return _sha256([(path, 0) for path in paths])


def tensor_sha256(*paths: Path) -> str:
    """Compute the SHA-256 in hex of the tensors' bytes in `paths`; a copy by `scrub` has the same.

    Raises as `read_header` does.
    """
    headers = [read_header(path) for path in paths]
    return _sha256(
        [
            (header.path, header.size_bytes - sum(info.size for info in header.tensors.values()))
            for header in headers
        ]
    )


def _sha256(parts: list[tuple[Path, int]]) -> str:
    """Hash each file from its offset in bytes to its end."""
    digest = hashlib.sha256()
    for path, offset in parts:
        with path.open("rb") as file:
            file.seek(offset)
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()

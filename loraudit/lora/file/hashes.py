"""Hash of a LoRA by the bytes of its tensors alone, whatever the header says."""

from pathlib import Path

from loraudit.files import file_sha256
from loraudit.lora.file.header import read_header

__all__ = ["tensor_sha256"]


def tensor_sha256(*paths: Path) -> str:
    """Compute the SHA-256 in hex of the tensors' bytes in `paths`; a copy by `scrub` has the same.

    Raises as `read_header` does.
    """
    headers = [read_header(path) for path in paths]
    tensors = [sum(info.size for info in header.tensors.values()) for header in headers]
    starts = [header.size_bytes - size for header, size in zip(headers, tensors, strict=True)]
    return file_sha256(*paths, starts=starts)

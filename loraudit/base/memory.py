"""How much memory this machine has left, and whether a base fits into it."""

import os
from collections.abc import Sequence
from pathlib import Path

from loraudit.errors import Incomplete

__all__ = ["available_memory", "require_memory"]


def require_memory(folder: Path, parts: Sequence[str], widened: bool) -> None:
    """Raise `Incomplete` where the kernel would kill the load of a pipeline's `parts`.

    Needed are the weights as loaded, plus a fifth for activations; `widened` says that they become float32.
    """
    stored = sum(file.stat().st_size for part in parts for file in (folder / part).glob("*.safetensors"))
    # A float16 file doubles when it is widened; which dtype it holds is not known before it is opened, so
    # assume the worst.
    need = stored * (2 if widened and stored < 3 * 2**30 else 1) * 1.2
    free = available_memory()
    if free is not None and need > free:
        raise Incomplete(
            f"this base needs about {need / 2**30:.1f} GiB of memory and {free / 2**30:.1f} GiB are free",
            "close other programs, use a smaller base, or run on a machine with more memory",
        )


def available_memory() -> int | None:
    """Return the bytes that can be allocated without swapping, None where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None

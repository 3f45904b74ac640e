"""Limits on the memory of this process: those of its control group, as containers have, and of `ulimit -v`.

Past the first the kernel ends the process without a word. Past the second, libraries of linear algebra end it
themselves. What is left is therefore asked for before anything large is loaded.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from loraudit.errors import Incomplete

__all__ = ["ATTACKS", "READING", "memory_left", "require_left"]

_GROUPS: Final = Path("/sys/fs/cgroup")
_OWN: Final = Path("/proc/self/cgroup")
_FILES: Final = (
    ("", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Folder, limit, usage, and what the kernel gives back of the usage, in both versions of control groups."""
_NONE: Final = 2**60
"""Limit in bytes from which it is none."""
READING: Final = (100 * 2**20, 256 * 2**20)
ATTACKS: Final = (600 * 2**20, 4 * 2**30)
"""Bytes of memory, and of addresses, that the libraries take which read weights and which attack them."""


def require_left(needed: tuple[int, int], what: str) -> None:
    """Raise `Incomplete` where the libraries that `what` takes would be the end of this process."""
    for left, bytes_needed in zip((_in_group(), _mapped()), needed, strict=True):
        if left is not None and left < bytes_needed:
            raise Incomplete(
                f"not enough memory: {what} takes {bytes_needed / 2**30:.1f} GiB to start, and the limit on "
                f"this process leaves {max(0, left) / 2**30:.1f} GiB",
                "raise the limit of the container or of ulimit -v",
            )


def memory_left() -> int | None:
    """Return the bytes that the limits on this process leave, None where there is no limit."""
    return min((left for left in (_in_group(), _mapped()) if left is not None), default=None)


def _in_group() -> int | None:
    """Return what the control group of this process, and those around the group, leave."""
    return min(_groups_left(), default=None)


def _groups_left() -> Iterator[int]:
    try:
        lines = _OWN.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, path = [*line.split(":", 2), "", ""][:3]
        for folder, limit, usage, given_back in _FILES:
            if folder in kinds.split(","):
                own = Path(path.lstrip("/"))
                # A container sees its own group as the root, and may be told a path outside of it.
                for group in (own, *own.parents):
                    left = _left(_GROUPS / folder / group, limit, usage, given_back)
                    if left is not None:
                        yield left


def _left(group: Path, limit: str, usage: str, given_back: str) -> int | None:
    try:
        most, used = (int((group / name).read_text(encoding="ascii")) for name in (limit, usage))
        stats = (group / "memory.stat").read_text(encoding="ascii").split()
        spare = int(stats[stats.index(given_back) + 1]) if given_back in stats else 0
    except (OSError, ValueError):
        return None
    return None if most >= _NONE else most - used + spare


def _mapped() -> int | None:
    """Return what `ulimit -v` leaves."""
    try:
        import resource

        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (ImportError, OSError, ValueError):
        return None
    return None if most in {resource.RLIM_INFINITY, -1} else most - pages * os.sysconf("SC_PAGE_SIZE")

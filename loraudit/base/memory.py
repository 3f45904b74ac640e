"""Memory that is left on this machine, and whether a base fits into it."""

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
    """Tell how many bytes can be allocated without swapping, or None where the system does not say."""
    # `loraudit doctor` answers in an installation that lacks packages, too.
    try:
        import psutil

        return int(psutil.virtual_memory().available)
    except (ImportError, OSError):
        return None

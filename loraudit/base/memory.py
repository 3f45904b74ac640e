"""Memory that is free on this machine, and checks that a base fits into it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from loraudit.errors import Incomplete
from loraudit.text import clean

if TYPE_CHECKING:
    import torch

__all__ = ["available_memory", "free_memory", "is_out_of_memory", "memory_may_run_out", "require_memory"]

_WORDS: Final = ("out of memory", "can't allocate memory", "not enough memory")
"""Words of torch's errors; torch has a class of its own for them on a GPU only."""


def require_memory(folder: Path, parts: Sequence[str], widened: bool) -> None:
    """Raise `Incomplete` where the kernel would kill the load of a pipeline's `parts`.

    The need is the weights as loaded, plus a fifth for activations. `widened` weights become float32.
    """
    stored = sum(file.stat().st_size for part in parts for file in (folder / part).glob("*.safetensors"))
    # A float16 file doubles when widened. The dtype is not known before the file is opened: assume the worst.
    need = stored * (2 if widened and stored < 3 * 2**30 else 1) * 1.2
    free = available_memory()
    if free is not None and need > free:
        raise Incomplete(
            f"this base needs about {need / 2**30:.1f} GiB of memory and {free / 2**30:.1f} GiB are free",
            "close other programs, use a smaller base, or run on a machine with more memory",
        )


def available_memory() -> int | None:
    """Return the bytes that can be allocated without swapping, None where the system does not say."""
    # `loraudit doctor` must answer in an installation that lacks packages.
    try:
        import psutil

        return int(psutil.virtual_memory().available)
    except (ImportError, OSError):
        return None


def free_memory(device: "torch.device") -> int | None:
    """Return the bytes that a model on `device` can still allocate, None where nobody says."""
    if device.type != "cuda":
        return available_memory()
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    # torch keeps what was freed for itself.
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether torch or Python raised `error` because no more memory was to be had."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)
    )


@contextmanager
def memory_may_run_out(base: str) -> Iterator[None]:
    """Raise `Incomplete`, naming the base, where torch or Python find no more memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise Incomplete(
            f"not enough memory for the base {clean(base, 300)}",
            "close other programs, or use a machine with more memory",
        ) from None

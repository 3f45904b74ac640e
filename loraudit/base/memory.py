"""Memory that is free on this machine, and checks that a base fits into it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from loraudit.base.limits import memory_left
from loraudit.errors import Incomplete
from loraudit.text import clean

if TYPE_CHECKING:
    import torch

__all__ = ["available_memory", "free_memory", "is_out_of_memory", "memory_may_run_out", "require_memory"]

_WORDS: Final = ("out of memory", "can't allocate memory", "not enough memory")
"""Words of torch's errors; torch has a class of its own for them on a GPU only."""
_SPARE: Final = 1.2
"""Memory that a base needs, as a multiple of its weights."""


def require_memory(weights: int, device: str, on_device: int) -> None:
    """Raise `Incomplete` where the kernel, or the GPU, would end the load of a base.

    `weights` bytes pass through this machine's memory, `on_device` bytes stay on `device`. The need is the
    weights plus a fifth for activations.
    """
    _require(weights, available_memory(), "memory", "close other programs, use a smaller base, or run on a "
             "machine with more memory")  # fmt: skip
    if device.startswith("cuda"):
        import torch

        _require(
            on_device,
            free_memory(torch.device(device)),
            "GPU memory",
            "close other programs that use the GPU, or leave it out with --device cpu",
        )


def _require(weights: int, free: int | None, kind: str, hint: str) -> None:
    need = weights * _SPARE
    if free is not None and need > free:
        raise Incomplete(
            f"this base needs about {need / 2**30:.1f} GiB of {kind} and {free / 2**30:.1f} GiB are free",
            hint,
        )


def available_memory() -> int | None:
    """Return the bytes that this process can allocate without swapping, None where nobody says."""
    # `loraudit doctor` must answer in an installation that lacks packages.
    try:
        import psutil

        free = [int(psutil.virtual_memory().available)]
    except (ImportError, OSError):
        free = []
    left = memory_left()
    return min([*free, *([] if left is None else [max(0, left)])], default=None)


def free_memory(device: "torch.device") -> int | None:
    """Return the bytes that a model on `device` can still allocate, None where nobody says."""
    if device.type != "cuda":
        return available_memory()
    import torch

    try:
        free, _ = torch.cuda.mem_get_info(device)
    except (RuntimeError, AssertionError, ValueError):
        return None
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

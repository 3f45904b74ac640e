"""Signals that stop a program: Ctrl-C and a request to end, at any point, with nothing left behind."""

import _thread
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import ClassVar, Final

from loraudit.errors import LorauditError

__all__ = ["Interrupted", "Stop", "interruptible"]

_WORDS: Final = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "hung up"}
"""Signals that stop a program => what its last line says."""
_AGAIN: Final = 0.2
"""Seconds until a stop that something swallowed is tried again."""


class Interrupted(LorauditError):
    """Stop of a job that the same command resumes. Exit code 130."""

    exit_code: ClassVar[int] = 130


@dataclass
class Stop:
    """The signal that asked the program to stop."""

    number: int = 0
    """Number of the signal; 0: none did."""

    @property
    def words(self) -> str:
        """Word for the signal on the last line."""
        return _WORDS[signal.Signals(self.number or signal.SIGINT).name]

    @property
    def exit_code(self) -> int:
        """Exit code that shells give a program that the signal ended."""
        return 128 + (self.number or signal.SIGINT)


_stop: Stop | None = None


@contextmanager
def interruptible() -> Iterator[Stop]:
    """Make every outcome of a Ctrl-C, or of a request to end, a `KeyboardInterrupt` while open.

    A `KeyboardInterrupt` can get lost. Python drops it in a destructor, and a library that calls back into
    Python may answer with an exception of its own: safetensors 0.8 raises a `ValueError`. So it is raised
    again and again until the block is left, but not in what cleans up after the first. Signals that are
    ignored, as Ctrl-C is in a shell's background, stay so.
    """
    global _stop
    if threading.current_thread() is not threading.main_thread():
        yield _stop or Stop()
        return
    if _stop is not None:
        yield from _open(_stop)
        return
    stop = _stop = Stop()
    numbers = [getattr(signal, name) for name in _WORDS if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    hook = sys.unraisablehook

    def press(number: int, _frame: FrameType | None) -> None:
        if not stop.number:
            stop.number = number
            # The lock of `threading` may be held where the signal arrived.
            _thread.start_new_thread(press_again, ())
        elif _cleans_up():
            return
        raise KeyboardInterrupt

    def press_again() -> None:
        while True:
            time.sleep(_AGAIN)
            if _stop is not stop:
                return
            _thread.interrupt_main(signal.Signals(stop.number))

    def unraised(dropped: "sys.UnraisableHookArgs") -> None:
        if not (stop.number and dropped.exc_type is KeyboardInterrupt):
            hook(dropped)

    for number, handler in before.items():
        # A handler that somebody else set for a request to end stays.
        if handler is signal.SIG_DFL or (number == signal.SIGINT and handler is not signal.SIG_IGN):
            signal.signal(number, press)
    sys.unraisablehook = unraised
    try:
        yield from _open(stop)
    finally:
        _stop = None
        sys.unraisablehook = hook
        for number, handler in before.items():
            if signal.getsignal(number) is press:
                signal.signal(number, handler)


def _open(stop: Stop) -> Iterator[Stop]:
    """Yield `stop`; at the end raise `KeyboardInterrupt` if a signal came and was swallowed."""
    try:
        yield stop
    except (KeyboardInterrupt, Interrupted):
        raise
    except BaseException as error:
        if stop.number:
            raise KeyboardInterrupt from error
        raise
    if stop.number:
        raise KeyboardInterrupt


def _cleans_up() -> bool:
    """Tell whether a `KeyboardInterrupt` is being handled where the main thread is."""
    error = sys.exc_info()[1]
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, KeyboardInterrupt):
            return True
        seen.add(id(error))
        error = error.__context__
    return False

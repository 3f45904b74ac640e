"""Errors and Ctrl-C: a line on stderr on what is wrong, a line on what to do, and an exit code."""

import errno
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, NoReturn

from loraudit.cli.console import drop_stdout, say_error, spell_out, write_error
from loraudit.errors import INSTALL, LorauditError

__all__ = ["in_one_line", "interruptible"]

INTERRUPTED: Final = 130


def in_one_line(command: Callable[[], object]) -> None:
    """Run `command`, of the command line or of a script; say on stderr what fails, and exit."""
    spell_out()
    try:
        with interruptible():
            command()
    except LorauditError as error:
        _fail(str(error), error.hint, error.exit_code)
    except MemoryError:
        _fail("not enough memory", "close other programs, or use a machine with more", 2)
    except KeyboardInterrupt:
        _fail("interrupted", "", INTERRUPTED)
    except SystemExit as stop:
        # Typer answers Ctrl-C inside a command with this code and no word.
        if stop.code == INTERRUPTED:
            _fail("interrupted", "", INTERRUPTED)
        raise
    except ModuleNotFoundError as error:
        # Commands that train or measure import what a light install lacks, and find out by that.
        package = (error.name or "loraudit").partition(".")[0]
        if package == "loraudit":
            _fail_of_itself(error)
        _fail(f"this command needs {package}, which is not installed", INSTALL, 2)
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            drop_stdout()
            _fail("no space left on the disk", "make room, or write elsewhere", 2)
        _fail_of_itself(error)


@contextmanager
def interruptible() -> Iterator[None]:
    """Make every outcome of a Ctrl-C a `KeyboardInterrupt` while open.

    A library that calls back into Python may answer `KeyboardInterrupt` with an exception of its own:
    safetensors 0.8 raises a `ValueError` about the object that was being read.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN or threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed = False

    def press(_number: int, _frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, press)
    try:
        yield
    except Exception as error:
        if pressed:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, before)


def _fail_of_itself(error: Exception) -> NoReturn:
    # Python's own exit code for this is 1, which here means "findings". What it says may be a file's.
    from loraudit.text import clean

    for line in traceback.format_exc().splitlines():
        write_error(clean(line, 300))
    _fail(f"internal error ({type(error).__name__})", "this is a bug in loraudit; please report it", 2)


def _fail(message: str, hint: str, code: int) -> NoReturn:
    say_error(message, hint)
    raise SystemExit(code)

"""The command line: one file per command, and `main`, the entry point.

A command's module is loaded when the command is used, and loads torch only inside the command. A command's
result goes to stdout or `-o`, everything else to stderr.
"""

import atexit
import gc
import os
import signal
from typing import Final

__all__ = ["main"]

_OBJECTS: Final = 50_000
"""Number of new objects after which Python looks for garbage."""


def main() -> None:
    """Run the command line and exit; an error becomes one line on stderr and an exit code."""
    # Imports make thousands of objects and no cycles; the usual 700 has each searched again and again.
    gc.set_threshold(_OBJECTS)
    # Loading what a command needs takes longer than a hand on Ctrl-C.
    early = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if early:
        signal.signal(signal.SIGINT, _leave)
    try:
        from loraudit.cli.app import COMPLETING, app
        from loraudit.cli.console import open_streams, talk
        from loraudit.cli.failures import in_one_line
        from loraudit.cli.guard import guard_stdout

        # At its end the interpreter searches every object for garbage: a fifth of a short command's time.
        atexit.register(gc.freeze)
        # A stream that is closed is none to guard.
        guard_stdout()
        open_streams()
        talk()
        if COMPLETING in os.environ:
            from loraudit.cli.completion import prepare

            prepare()

        def run() -> None:
            _check_working_folder()
            app(prog_name="loraudit")

        in_one_line(run)
    finally:
        if early:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(number: int, _frame: object) -> None:
    """End the program at once: nothing is under way yet."""
    try:
        os.write(2, b"loraudit: error: interrupted\n")
    finally:
        os._exit(128 + number)


def _check_working_folder() -> None:
    from loraudit.errors import LorauditError

    try:
        os.getcwd()  # noqa: PTH109  # pathlib takes a tenth of a short command's time to load
    except OSError as error:
        raise LorauditError(
            f"the working folder cannot be told: {error.strerror}", "change to a folder that is there"
        ) from None

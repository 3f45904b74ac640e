"""The command line: one file per command, and `main`, the entry point.

A command's module is loaded when the command is used, and loads torch only inside the command. A command's
result goes to stdout or `-o`, everything else to stderr.
"""

import atexit
import gc
import os

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit; an error becomes one line on stderr and an exit code."""
    from loraudit.cli.app import COMPLETING, app
    from loraudit.cli.console import talk
    from loraudit.cli.failures import in_one_line
    from loraudit.cli.guard import guard_stdout

    guard_stdout()
    # At its end the interpreter searches every object for garbage: a fifth of a short command's time.
    atexit.register(gc.freeze)
    talk()
    if COMPLETING in os.environ:
        from loraudit.cli.completion import prepare

        prepare()
    in_one_line(lambda: app(prog_name="loraudit"))

"""The command line: a command one file, `main` its entry point.

A command's module is loaded when the command is used, and loads torch only inside the command. What a command
reports goes to stdout or `-o`, everything else to stderr.
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

    # As it ends the interpreter looks for garbage among all there is, for a fifth of a short command's time.
    atexit.register(gc.freeze)
    talk()
    if COMPLETING in os.environ:
        from loraudit.cli.completion import prepare

        prepare()
    in_one_line(lambda: app(prog_name="loraudit"))

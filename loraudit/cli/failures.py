"""Errors and signals: a line on stderr on what is wrong, a line on what to do, and an exit code."""

import errno
import traceback
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from loraudit.cli.console import drop_stdout, say_error, spell_out, write_error
from loraudit.cli.signals import Stop, interruptible
from loraudit.errors import INSTALL, InternalError, LorauditError
from loraudit.findings.failures import reported

__all__ = ["in_one_line", "say_failures", "write_traceback"]

_INTERRUPTED: Final = 130
_SHOWN: Final = 10
"""Limit on the targets of a scan whose errors are told one by one."""
_CAUSES: Final = 5
"""Limit on the errors, each the cause of the one before, that are shown of a bug."""


def in_one_line(command: Callable[[], object]) -> None:
    """Run `command`, of the command line or of a script; say on stderr what fails, and exit."""
    spell_out()
    stop = Stop()
    try:
        with interruptible() as stop:
            command()
    except LorauditError as error:
        _fail(str(error), error.hint, stop.exit_code if stop.number else error.exit_code)
    except MemoryError:
        _fail("not enough memory", "close other programs, or use a machine with more", 2)
    except KeyboardInterrupt:
        _fail(stop.words, "", stop.exit_code)
    except SystemExit as leaving:
        # Typer answers Ctrl-C inside a command with this code and no word.
        if leaving.code == _INTERRUPTED:
            _fail(stop.words, "", stop.exit_code)
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
        told = reported(error)
        if isinstance(told, InternalError):
            _fail_of_itself(error)
        _fail(str(told), told.hint, 2)


def say_failures(failed: Sequence[tuple[str, LorauditError]]) -> None:
    """Write to stderr what kept targets from being scanned: the name of each, escaped, and its error."""
    for name, error in failed[:_SHOWN]:
        if isinstance(error, InternalError) and error.__cause__ is not None:
            write_traceback(error.__cause__)
        say_error(str(error) if name in str(error) else f"{name}: {error}", error.hint)
    if len(failed) > _SHOWN:
        write_error(f"and {len(failed) - _SHOWN} more that could not be scanned; the report names them")


def write_traceback(error: BaseException) -> None:
    """Write the kind of `error` and its lines of code to stderr, and those of each error behind it.

    What an error says is not shown: it may be words of a file.
    """
    from loraudit.text import clean

    shown: BaseException | None = error
    for _ in range(_CAUSES):
        if shown is None:
            break
        write_error("Traceback (most recent call last):")
        for line in "".join(traceback.format_tb(shown.__traceback__)).splitlines():
            write_error(clean(line, 300))
        write_error(type(shown).__name__)
        shown = shown.__cause__ or shown.__context__


def _fail_of_itself(error: Exception) -> NoReturn:
    # Python's own exit code for this is 1, which here means "findings".
    write_traceback(error)
    _fail(f"internal error ({type(error).__name__})", "this is a bug in loraudit; please report it", 2)


def _fail(message: str, hint: str, code: int) -> NoReturn:
    say_error(message, hint)
    raise SystemExit(code)

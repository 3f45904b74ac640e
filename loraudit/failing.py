"""What becomes of errors: one line on stderr that says what is wrong and what to do, and an exit code."""

import errno
import traceback
from collections.abc import Callable
from typing import Final, NoReturn

from loraudit.console import drop_stdout, say, say_error, spell_out
from loraudit.errors import LorauditError
from loraudit.interrupt import interruptible

__all__ = ["in_one_line"]

INTERRUPTED: Final = 130


def in_one_line(command: Callable[[], object]) -> None:
    """Run `command`, of the command line or of a script; where it fails, say so and exit."""
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
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            drop_stdout()
            _fail("no space left on the disk", "make room, or write elsewhere", 2)
        # Python's own exit code for this is 1, which here means "findings". What it says may be a file's.
        from loraudit.text import clean

        for line in traceback.format_exc().splitlines():
            say(clean(line, 300))
        _fail(f"internal error ({type(error).__name__})", "this is a bug in loraudit; please report it", 2)


def _fail(message: str, hint: str, code: int) -> NoReturn:
    say_error(message, hint)
    raise SystemExit(code)

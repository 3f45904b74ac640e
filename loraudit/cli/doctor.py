"""The command `doctor`."""

from typing import Final

import typer

from loraudit.cli.console import emit, width
from loraudit.errors import Incomplete

__all__ = ["doctor"]

EXAMPLES: Final = ("loraudit doctor",)


def doctor() -> None:
    """Check what can run on this machine.

    The exit code is 4 if the default scan cannot.
    """
    from loraudit.diagnosis import diagnose, diagnosis_text

    diagnosis = diagnose()
    emit(diagnosis_text(diagnosis, width=width(None)), None)
    if not diagnosis.ready:
        raise typer.Exit(Incomplete.exit_code)

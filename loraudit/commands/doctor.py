"""The command `doctor`."""

import typer

from loraudit.console import emit, width
from loraudit.errors import Incomplete

__all__ = ["doctor"]


def doctor() -> None:
    """Say what can run on this machine; exit code 4 if the default scan cannot."""
    from loraudit.diagnosis import diagnose, diagnosis_text

    diagnosis = diagnose()
    emit(diagnosis_text(diagnosis, width=width(None)), None)
    if not diagnosis.ready:
        raise typer.Exit(Incomplete.exit_code)

"""`loraudit scan`: every target to a report; one that cannot be scanned, or only in part, says so.

Importing this loads neither torch nor diffusers, so that an installation without them can say what it lacks.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from loraudit import __version__
from loraudit.audit import gap, target_of
from loraudit.errors import Incomplete, LorauditError, NotScannable
from loraudit.findings import Exit, Gap, Report, Severity, exit_code, unscannable
from loraudit.lora import LoRA, clean, load_lora
from loraudit.request import Request

if TYPE_CHECKING:
    from loraudit.workbench import Workbench

__all__ = ["Scanned", "scan"]

_NEEDED: Final = (
    "torch", "diffusers", "transformers", "safetensors", "open_clip", "facenet_pytorch", "PIL",
)  # fmt: skip
_INSTALL: Final = "install what attacks need with: pip install 'loraudit[attack]'"


@dataclass(frozen=True)
class Scanned:
    """One target, done."""

    report: Report
    error: LorauditError | None = None
    """Why it could not be scanned at all."""

    def exit_code(self, fail_on: Severity | None) -> int:
        """That of the error, if there is one, otherwise of the report."""
        return self.error.exit_code if self.error else exit_code(self.report, fail_on)


def scan(
    targets: Sequence[str],
    request: Request,
    say: Callable[[str], None] = lambda _line: None,
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[Scanned]:
    """Audit every target, in order; `say` hears what is going on, `on_step` how many pictures are done.

    Raises `LorauditError` if the request itself cannot be met: no such base or encoder, no device, no
    reference photos, a folder for pictures that is not empty, a single target that does not exist.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    bench: Workbench | None = None
    done = []
    for number, target in enumerate(targets, 1):
        try:
            lora = load_lora(target, request.offline)
        except LorauditError as error:
            if len(targets) == 1 and error.exit_code == Exit.ERROR:
                raise
            done.append(_failed(target, error))
            continue
        if missing:
            done.append(_in_part(lora, Gap("any attack", f"{missing[0]} is not installed; {_INSTALL}")))
            continue
        if bench is None:
            from loraudit.workbench import Workbench

            bench = Workbench(request, say, on_step)
        try:
            within = f"{number:02d}" if len(targets) > 1 else None
            done.append(Scanned(bench.audit(lora, within)))
        except NotScannable as error:
            done.append(_failed(target, error))
        except Incomplete as error:
            done.append(_in_part(lora, gap("any attack", error)))
    return done


def _failed(target: str, error: LorauditError) -> Scanned:
    why = gap("target", error).why
    return Scanned(unscannable(__version__, clean(Path(target).name or target), why), error)


def _in_part(lora: LoRA, why: Gap) -> Scanned:
    """Read, but not attacked."""
    return Scanned(Report(__version__, target_of(lora), incomplete=(why,)))

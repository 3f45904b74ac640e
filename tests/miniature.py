"""A calibration of a base far smaller than the embedded one, of LoRAs that are hardly trained.

    python -m tests.miniature BASE OUT STAGE

kills its own process with signal 9 in the middle of a stage.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

from loraudit.audit import calibrate_base as making
from loraudit.audit import setup
from loraudit.audit.request import Request
from loraudit.evidence.calibration import Calibration
from loraudit.runs import OnStep, unheard
from loraudit.scores.scorers import Scorers
from loraudit.training.control_plans import Sizes
from loraudit.training.finetune import TINY
from tests.audits import ColourFace

SIZES = Sizes(people=3, crowds=2, styles=2, things=2, merged=1, noise=1)
RECIPE = replace(TINY, steps=7, class_images=2)


@contextmanager
def in_small(face=None) -> Iterator[None]:
    """Recipes of a few steps, and a face model that sees somebody in every picture."""
    scorers = Scorers(face or ColourFace(), face_sha256="f" * 64)
    with ExitStack() as stack:
        stack.enter_context(patch.object(setup, "open_scorers", lambda *_: (scorers, ())))
        stack.enter_context(patch.object(making, "base_recipe", lambda _base: RECIPE))
        yield


def request(base: Path, attacks: tuple[str, ...] = ("guidance", "prompts")) -> Request:
    return Request(base=str(base), attacks=attacks, samples=2, steps=1, device="cpu", offline=True)


def calibrate(base: Path, out: Path | None, on_step: OnStep = unheard, face=None) -> Calibration:
    with in_small(face):
        asked = request(base)
        ahead = making.look_ahead(asked, str(base), out, SIZES)
        return making.calibrate_base(asked, str(base), ahead, on_step)


def _killed(base: str, out: str, stage: str) -> None:
    def kill(done: int, _total: int, told: str) -> None:
        if told.startswith(stage) and done >= 2:
            os.kill(os.getpid(), signal.SIGKILL)

    calibrate(Path(base), Path(out), kill)


if __name__ == "__main__":
    _killed(*sys.argv[1:])

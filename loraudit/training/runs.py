"""A training in a folder: a record written before step 0, metrics, and a checkpoint for an exact resume."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from loraudit.errors import LorauditError
from loraudit.runs import Run
from loraudit.text import clean
from loraudit.version import versions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Training", "damaged", "load_checkpoint"]

_PACKAGES = (
    "torch",
    "accelerate",
    "diffusers",
    "transformers",
    "open_clip_torch",
    "numpy",
    "pillow",
    "safetensors",
)
_METRICS = "metrics.jsonl"
_CHECKPOINT = "checkpoint.pt"


@dataclass
class Training:
    """Folder that holds one training: `run.json` (written first), `metrics.jsonl`, `checkpoint.pt`.

    The clock counts over resumes, so a budget of minutes is for the whole training. A checkpoint is read with
    `weights_only=True`, although both file and folder are the training's own.
    """

    folder: Path
    config: Mapping[str, Any]
    spent: float = 0.0
    """Seconds of training before this process started."""
    say: Callable[[str], object] | None = None
    """Listener that gets each row of metrics as a line."""
    _started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        record = {
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
            "config": dict(self.config),
            "versions": {"python": platform.python_version(), **versions(_PACKAGES)},
        }
        # The checkpoint, not the record, says which training this is: the command may differ on resume.
        text = json.dumps(record, indent=2, default=str) + "\n"
        self._run.begin("run.json", text, other=lambda _old: "")

    @property
    def _run(self) -> Run:
        return Run(self.folder)

    @property
    def seconds(self) -> float:
        """Seconds trained so far."""
        return self.spent + time.monotonic() - self._started

    def log(self, step: int, **numbers: float) -> None:
        """Append a row to `metrics.jsonl`, and pass the row to `say` as a line."""
        row = {
            "step": step,
            "seconds": round(self.seconds, 1),
            **{k: round(float(v), 6) for k, v in numbers.items()},
        }
        self._run.append(_METRICS, row)
        if self.say is not None:
            self.say("  ".join(f"{name} {value:g}" for name, value in row.items()))

    def save(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint."""
        self._run.keep(_CHECKPOINT, lambda path: torch.save({**state, "seconds": self.seconds}, path))

    def load(self) -> dict[str, Any] | None:
        """Read the last checkpoint, None if there is none, and set the clock to its time.

        Raises `LorauditError` if the file is no checkpoint.
        """
        state = load_checkpoint(self.folder)
        if state is not None:
            self.spent = state["seconds"]
        return state

    def rewind(self, step: int) -> None:
        """Delete the metrics after `step`, which a training resumed there logs again.

        Raises `LorauditError` if the metrics are damaged.
        """

        def is_kept(row: Mapping[str, Any]) -> bool:
            if not all(isinstance(number, float | int) for number in row.values()):
                raise TypeError("a row of metrics holds numbers alone")
            return bool(row["step"] <= step)

        self._run.rows(_METRICS, keep=is_kept)


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Read the last checkpoint of the training in `folder`, None if there is none.

    Nothing but tensors and plain values is unpickled. Raises `LorauditError` if the file is no checkpoint.
    """
    path = folder / _CHECKPOINT
    if not os.path.lexists(path):
        return None
    try:
        with warnings.catch_warnings():
            # torch warns of old formats before it refuses them.
            warnings.simplefilter("ignore")
            # Opening a pipe would wait for its other end.
            state = torch.load(path, "cpu", weights_only=True) if path.is_file() else None
    except Exception:  # torch raises errors of a dozen classes for a damaged file
        raise damaged(folder) from None
    if not isinstance(state, dict) or not _is_seconds(state.get("seconds")):
        raise damaged(folder)
    return state


def damaged(folder: Path) -> LorauditError:
    """Make the error for a checkpoint in `folder` that cannot be gone on from."""
    return LorauditError(
        f"{_CHECKPOINT} in {clean(folder.name)} is damaged, or is no checkpoint of this training",
        "delete the file to start anew, or name another folder",
    )


def _is_seconds(value: object) -> bool:
    return isinstance(value, float | int) and 0 <= value < math.inf

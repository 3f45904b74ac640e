"""What every training of the embedded models shares: a record written before step 0, progress, checkpoints,
exact resume.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Run", "load_checkpoint", "versions"]

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


def versions() -> dict[str, str]:
    """Versions that a result depends on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        found[package] = importlib.metadata.version(package)
    return found


@dataclass
class Run:
    """A folder that holds one training: `run.json` (written first), `metrics.jsonl`, `checkpoint.pt`.

    The clock counts over resumes, so `--minutes` budgets the whole training. A checkpoint is our own file
    in our own run folder; it is read with `weights_only=True` all the same.
    """

    folder: Path
    config: Mapping[str, Any]
    spent: float = 0.0
    """Seconds of training before this process started."""
    _started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        record = {
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
            "config": dict(self.config),
            "versions": versions(),
        }
        _write(self.folder / "run.json", json.dumps(record, indent=2, default=str) + "\n")

    @property
    def seconds(self) -> float:
        """Seconds trained so far."""
        return self.spent + time.monotonic() - self._started

    def log(self, step: int, **numbers: float) -> None:
        """Append to `metrics.jsonl` and print on stderr."""
        row = {
            "step": step,
            "seconds": round(self.seconds, 1),
            **{k: round(float(v), 6) for k, v in numbers.items()},
        }
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        print("  ".join(f"{name} {value:g}" for name, value in row.items()), file=sys.stderr, flush=True)

    def save(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint atomically."""
        partial = self.folder / "checkpoint.partial"
        torch.save({**state, "seconds": self.seconds}, partial)
        partial.replace(self.folder / "checkpoint.pt")

    def load(self) -> dict[str, Any] | None:
        """The last checkpoint, or None."""
        state = load_checkpoint(self.folder)
        if state is not None:
            self.spent = state["seconds"]
        return state

    def rewind(self, step: int) -> None:
        """Forget the metrics after `step`: an interrupted training logged them, and a resumed one will log
        them again.
        """
        path = self.folder / "metrics.jsonl"
        if path.exists():
            rows = path.read_text().splitlines(keepends=True)
            _write(
                path, "".join(row for row in rows if row.endswith("\n") and json.loads(row)["step"] <= step)
            )


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The last checkpoint of the run in `folder`, or None."""
    path = folder / "checkpoint.pt"
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state


def _write(path: Path, text: str) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(path)

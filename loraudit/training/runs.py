"""What every training of the embedded models shares: a record written before step 0, progress, checkpoints, exact resume."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Run", "versions"]

_PACKAGES = ("torch", "diffusers", "transformers", "open_clip_torch", "numpy", "pillow", "safetensors")


def versions() -> dict[str, str]:
    """Versions that a result depends on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        found[package] = importlib.metadata.version(package)
    return found


@dataclass
class Run:
    """A folder that holds one training: `run.json` (written first), `metrics.jsonl`, `checkpoint.pt`.

    The clock counts over resumes, so `--minutes` budgets the whole training. A checkpoint is our own file in our own run
    folder; it is read with `weights_only=True` all the same.
    """

    folder: Path
    config: Mapping[str, Any]
    spent: float = 0.0
    """Seconds of training before this process started."""
    _started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        record = {"command": sys.argv, "config": dict(self.config), "versions": versions()}
        _write(self.folder / "run.json", json.dumps(record, indent=2, default=str) + "\n")

    @property
    def seconds(self) -> float:
        """Seconds trained so far."""
        return self.spent + time.monotonic() - self._started

    def log(self, step: int, **numbers: float) -> None:
        """Append to `metrics.jsonl` and print on stderr."""
        row = {"step": step, "seconds": round(self.seconds, 1), **{k: round(float(v), 6) for k, v in numbers.items()}}
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        print("  ".join(f"{name} {value:g}" for name, value in row.items()), file=sys.stderr, flush=True)

    def save(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint atomically."""
        partial = self.folder / "checkpoint.partial"
        torch.save({**state, "seconds": self.seconds}, partial)
        os.replace(partial, self.folder / "checkpoint.pt")

    def load(self) -> dict[str, Any] | None:
        """The last checkpoint, or None."""
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return None
        state: dict[str, Any] = torch.load(path, weights_only=True)
        self.spent = state["seconds"]
        return state


def _write(path: Path, text: str) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    os.replace(partial, path)

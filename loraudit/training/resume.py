"""Resume of an encoder's training: what a checkpoint must hold before anything goes on from it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch

from loraudit.encoder.constant import ConstantEmbedding
from loraudit.encoder.paper import PaperEncoder
from loraudit.encoder.probe import ProbeEncoder
from loraudit.errors import LorauditError
from loraudit.text import clean
from loraudit.training.runs import damaged, load_checkpoint

__all__ = ["resume"]

_Losses: TypeAlias = list[tuple[float, float]]

_OWN: Final = frozenset({"params", "lr", "initial_lr"})
"""Entries of an optimizer's group that may differ from those of a new optimizer."""


def resume(
    folder: Path,
    record: str,
    model: PaperEncoder | ProbeEncoder | ConstantEmbedding,
    optimizer: torch.optim.Optimizer,
) -> tuple[int, _Losses, float]:
    """Load the checkpoint in `folder` into a new `model` and `optimizer`.

    Returns the updates done, the losses since the last row of metrics and the seconds spent; without a
    checkpoint nothing of each. Raises `LorauditError` if the checkpoint is damaged, or not of the settings
    `record`.
    """
    state = load_checkpoint(folder)
    if state is None:
        return 0, [], 0.0
    if not isinstance(state.get("config"), str):
        raise damaged(folder)
    if state["config"] != record:
        raise LorauditError(
            f"{clean(folder.name)} holds a training with other settings",
            "name another folder, or delete this one",
        )
    try:
        step, recent = _counted(state)
        model.load_own_state(state["model"])
        fresh = _rules(optimizer)
        optimizer.load_state_dict(state["optimizer"])
        sound = _rules(optimizer) == fresh and _is_sound(model, optimizer)
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError):
        raise damaged(folder) from None
    if not sound:
        raise damaged(folder)
    return step, recent, float(state["seconds"])


def _counted(state: Mapping[str, Any]) -> tuple[int, _Losses]:
    """Read the number of updates and the last losses. Raises `ValueError` if they are none."""
    step, recent = state["step"], [(float(loss), float(divergence)) for loss, divergence in state["recent"]]
    if type(step) is not int or step < 0 or not all(math.isfinite(one) for pair in recent for one in pair):
        raise ValueError("no number of updates, or no losses")
    return step, recent


def _rules(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """List what governs the updates of each group, apart from its learning rate."""
    return [
        {name: value for name, value in group.items() if name not in _OWN} for group in optimizer.param_groups
    ]


def _is_sound(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> bool:
    """Tell whether all numbers are finite, and the optimizer's as many as the model's."""
    kept = [
        value.shape in {parameter.shape, torch.Size([])} and bool(value.isfinite().all())
        for parameter, values in optimizer.state.items()
        for value in values.values()
        if isinstance(value, torch.Tensor)
    ]
    # A state without its moments would fail at the next update.
    whole = all(set(values) == {"step", "exp_avg", "exp_avg_sq"} for values in optimizer.state.values())
    return whole and all(kept) and all(bool(value.isfinite().all()) for value in model.parameters())

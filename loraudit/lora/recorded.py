"""Facts about a training that trainers record in a LoRA's metadata."""

import json
from collections.abc import Mapping
from typing import Final

__all__ = ["recorded_clip_skip", "recorded_step"]

_STEP_KEYS: Final = ("ss_steps", "global_step")
"""Metadata keys of the step: kohya-ss/sd-scripts `train_network.py`; SimpleTuner `save_hooks.py`."""
_DIGITS: Final = 9
"""Digits of a recorded step, at most."""


def recorded_step(metadata: Mapping[str, str]) -> int | None:
    """Return the fine-tuning steps, at least 1, that the metadata records; None if no known key does."""
    values: list[object] = [metadata.get(key) for key in _STEP_KEYS]
    try:
        # ostris/ai-toolkit `toolkit/metadata.py`
        info = json.loads(metadata.get("training_info", "{}")[:1000])
        values.append(str(info.get("step")) if isinstance(info, dict) else None)
    except (ValueError, RecursionError):
        pass
    for value in values:
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _DIGITS:
            return int(value) or None
    return None


def recorded_clip_skip(metadata: Mapping[str, str]) -> int | None:
    """Return the layer of the text tower, from the end, that a LoRA was trained at; None if none is told."""
    told = metadata.get("ss_clip_skip", "")
    return int(told) if told.isascii() and told.isdigit() and len(told) <= _DIGITS and int(told) else None

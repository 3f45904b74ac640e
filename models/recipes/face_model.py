"""The files of `tiny-face`, and the choice of its threshold."""

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from loraudit.runs import Run
from loraudit.scores.face_net import TinyFaceConfig, TinyFaceNet

__all__ = ["save_tiny_face", "threshold_at_far"]


def save_tiny_face(network: TinyFaceNet, config: TinyFaceConfig, folder: Path) -> None:
    """Write `model.safetensors` and `config.json` into `folder`, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    Run(folder).keep("model.safetensors", partial(save_file, state))
    Run(folder).write("config.json", json.dumps(asdict(config), indent=2, sort_keys=True) + "\n")


def threshold_at_far(impostors: Tensor, far: float) -> float:
    """Find the lowest cosine that at most a share `far` of `impostors` reaches.

    `impostors [N]` are cosines of random pairs of different people; `far` is in 0..1. Raises `ValueError` for
    fewer than `10 / far` pairs, where a handful of pairs would decide.
    """
    ordered = impostors.flatten().sort(descending=True).values
    allowed = int(far * ordered.numel())
    if allowed < 10:
        raise ValueError(f"{ordered.numel()} impostor pairs are too few for a false-accept rate of {far}")
    # The next number in the cosines' own precision, since a finer one would round back to one that must fail.
    return float(torch.nextafter(ordered[allowed], ordered.new_tensor(2.0)))

"""`tiny-face`, the face model of 64x64 synthetic pictures: who is on a picture, if anybody.

The pictures of the `tiny` base are face crops already, so nothing is detected or aligned. A picture counts as
a face if the network's gate says so (`models/recipes/face_gate.py` fits the gate).
"""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from loraudit.errors import LorauditError
from loraudit.scores import FaceEmbeddings, fit_square
from loraudit.scores.face_net import SIZE, TinyFaceConfig, TinyFaceNet

__all__ = ["TinyFace", "load_tiny_face"]

_BATCH = 256
"""Pictures in a forward pass, at most."""


class TinyFace:
    """Face model of synthetic people, a `FaceScorer`; pictures are cut to a centred 64x64."""

    name = "tiny-face"
    threshold_from = ""
    """Empty: the threshold was measured with this very model."""

    def __init__(
        self, network: TinyFaceNet, config: TinyFaceConfig, device: str | torch.device = "cpu"
    ) -> None:
        self.config = config
        self.network = network.eval().to(device)
        self._device = device

    @property
    def threshold(self) -> float:
        """Cosine, -1..1, at or above which two faces count as one person."""
        return self.config.threshold

    @property
    def far(self) -> float:
        """False-accept rate at `threshold`, 0..1."""
        return self.config.far

    @torch.inference_mode()
    def embed(self, images: Tensor) -> FaceEmbeddings:
        """Embed the faces on pictures `[N, 3, H, W]` in 0..1 as vectors `[N, config.dim]`."""
        vectors, found = [torch.zeros(0, self.config.dim)], [torch.zeros(0, dtype=torch.bool)]
        for batch in images.split(_BATCH):
            pixels = fit_square(batch.to(self._device, torch.float32), SIZE)
            output = self.network(pixels)
            # a broken picture has a NaN logit, never >= the gate, and a NaN vector, which must not get out
            is_face = output.face_logit >= self.config.gate
            vectors.append(torch.where(is_face[:, None], output.embedding, 0.0).cpu())
            found.append(is_face.cpu())
        return FaceEmbeddings(torch.cat(vectors), tuple(torch.cat(found).tolist()))


def load_tiny_face(folder: Path, device: str | torch.device = "cpu") -> TinyFace:
    """Read the network and its configuration in `folder`.

    Raises `LorauditError` if a file is missing, damaged or unfit.
    """
    try:
        config = TinyFaceConfig(**json.loads((folder / "config.json").read_text()))
        network = TinyFaceNet(config.width, config.dim)
        network.load_state_dict(load_file(folder / "model.safetensors"))
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise LorauditError(
            f"the face model in {folder.name} cannot be read ({type(error).__name__})",
            "restore models/tiny-face from the repository",
        ) from error
    return TinyFace(network, config, device)

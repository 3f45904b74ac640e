"""`tiny-face`: who is on a 64x64 synthetic picture, and whether anybody is.

The pictures of the `tiny` base are face crops already, so nothing is detected or aligned: a picture counts as
a face when the network's gate says so (`face_gate.py` fits it).
"""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from loraudit.errors import LorauditError
from loraudit.scores import FaceEmbeddings, fit_square
from loraudit.scores.face_net import SIZE, TinyFaceConfig, TinyFaceNet

__all__ = ["TinyFace", "load_tiny_face", "save_tiny_face", "threshold_at_far"]

_BATCH = 256


class TinyFace:
    """Pictures `[N, 3, H, W]` in 0..1, cut to a centred 64x64, to `FaceEmbeddings`; a `FaceScorer`."""

    name = "tiny-face"

    def __init__(
        self, network: TinyFaceNet, config: TinyFaceConfig, device: str | torch.device = "cpu"
    ) -> None:
        self.config = config
        self.network = network.eval().to(device)
        self._device = device

    @property
    def threshold(self) -> float:
        """Cosine at or above which two faces count as one person."""
        return self.config.threshold

    @property
    def far(self) -> float:
        """False-accept rate at `threshold`, 0..1."""
        return self.config.far

    @torch.inference_mode()
    def embed(self, images: Tensor) -> FaceEmbeddings:
        """Pictures `[N, 3, H, W]` in 0..1 to vectors `[N, config.dim]`."""
        vectors, found = [torch.zeros(0, self.config.dim)], [torch.zeros(0, dtype=torch.bool)]
        for batch in images.split(_BATCH):
            pixels = fit_square(batch.to(self._device, torch.float32), SIZE)
            output = self.network(pixels)
            # a NaN picture has a NaN logit, never >= the gate, and a NaN vector, which must not get out
            is_face = output.face_logit >= self.config.gate
            vectors.append(torch.where(is_face[:, None], output.embedding, 0.0).cpu())
            found.append(is_face.cpu())
        return FaceEmbeddings(torch.cat(vectors), tuple(torch.cat(found).tolist()))


def save_tiny_face(network: TinyFaceNet, config: TinyFaceConfig, folder: Path) -> None:
    """Write `model.safetensors` and `config.json` into `folder`, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    weights, settings = folder / "model.safetensors", folder / "config.json"
    save_file(state, f"{weights}.part")
    Path(f"{weights}.part").replace(weights)
    Path(f"{settings}.part").write_text(json.dumps(asdict(config), indent=2, sort_keys=True) + "\n")
    Path(f"{settings}.part").replace(settings)


def load_tiny_face(folder: Path, device: str | torch.device = "cpu") -> TinyFace:
    """Read what `save_tiny_face` wrote. Raises `LorauditError` if a file is missing, damaged or unfit."""
    try:
        config = TinyFaceConfig(**json.loads((folder / "config.json").read_text()))
        network = TinyFaceNet(config.width, config.dim)
        network.load_state_dict(load_file(folder / "model.safetensors"))
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise LorauditError(
            f"the face model in {folder} cannot be read ({type(error).__name__})",
            "restore models/tiny-face from the repository",
        ) from error
    return TinyFace(network, config, device)


def threshold_at_far(impostors: Tensor, far: float) -> float:
    """The lowest cosine that at most a share `far` of `impostors` reaches.

    `impostors` `[N]`: cosines of pictures of different people, a random sample of at least `10 / far` pairs,
    or the tail that decides is a handful of pairs. `far` in 0..1.
    """
    ordered = impostors.flatten().sort(descending=True).values
    allowed = int(far * ordered.numel())
    if allowed < 10:
        raise ValueError(f"{ordered.numel()} impostor pairs are too few for a false-accept rate of {far}")
    # the next number of the cosines' own precision: a finer one would round back to the cosine that must fail
    return float(torch.nextafter(ordered[allowed], ordered.new_tensor(2.0)))

"""The gate of `tiny-face`: a logistic regression on the network's features, faces against other pictures.

The gate is fitted after the identity embedding, on the frozen network, and so cannot harm the embedding.
Held-out pictures calibrate the gate to let nearly every face pass.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from loraudit.scores.face_net import SIZE, TinyFaceNet

__all__ = ["GateCheck", "check_gate", "fit_gate", "non_faces", "overshot"]


@dataclass(frozen=True)
class GateCheck:
    """Gate, and the shares of held-out pictures that pass."""

    gate: float
    """Least logit of a picture that counts as a face."""
    faces_passed: float
    """Share of faces that count as faces, 0..1."""
    others_passed: float
    """Share of other pictures that count as faces, 0..1."""


def non_faces(faces: Tensor, generator: torch.Generator) -> Tensor:
    """Make pictures without a face, one from each of `faces`; both are `[N, 3, 64, 64]` in 0..1.

    In turn: white noise, noise smooth at a random scale, one colour, a face cut into tiles of 8 or 16
    pixels and shuffled, and a face with its amplitude spectrum kept and its phases random. A model of colour
    and sharpness alone would take the last for a face. A broken or unguided decoder draws such pictures.
    """
    makers = (_white, _smooth, _flat, _shuffled, _rephased)
    return torch.stack([makers[i % len(makers)](face, generator) for i, face in enumerate(faces)])


def overshot(faces: Tensor, generator: torch.Generator) -> Tensor:
    """Overdraw each of `faces [N, 3, 64, 64]` in 0..1, as strong guidance does.

    Colours move from grey, contrast is up to twice as strong, and the whole gets a cast, darker or brighter.
    Strong guidance of a LoRA that was trained hard draws such faces, dark and glaring, but faces.
    """

    def each(low: float, high: float, channels: int = 1) -> Tensor:
        return low + (high - low) * torch.rand((len(faces), channels, 1, 1), generator=generator)

    grey = faces.mean(1, keepdim=True)
    coloured = grey + (faces - grey) * each(0.8, 2.0)
    mean = coloured.mean((1, 2, 3), keepdim=True)
    contrasted = mean + (coloured - mean) * each(0.8, 2.0)
    return (contrasted + each(-0.35, 0.2) + each(-0.1, 0.1, 3)).clamp(0, 1)


def fit_gate(network: TinyFaceNet, faces: Tensor, others: Tensor, steps: int = 600) -> None:
    """Fit `network.gate` in place, the rest frozen. `faces` and `others` are `[N, 3, 64, 64]` in 0..1."""
    network.eval()
    features = torch.cat([_features(network, faces), _features(network, others)])
    labels = torch.cat([torch.ones(len(faces)), torch.zeros(len(others))]).to(features)
    centre, spread = features.mean(0), features.std(0) + 1e-3
    head = nn.Linear(features.shape[1], 1).to(features)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    # The classes are separable: without weight decay the logits would grow without end.
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3, weight_decay=0.1)
    standard = (features - centre) / spread
    for _ in range(steps):
        loss = F.binary_cross_entropy_with_logits(head(standard).squeeze(1), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        network.gate.weight.copy_(head.weight / spread)
        network.gate.bias.copy_(head.bias - head.weight @ (centre / spread))


def check_gate(network: TinyFaceNet, faces: Tensor, others: Tensor, missed: float = 0.005) -> GateCheck:
    """Find the gate that rejects a share `missed` of held-out `faces`, and the `others` that pass."""
    network.eval()
    with torch.inference_mode():
        face_logits = network.gate(_features(network, faces)).squeeze(1)
        other_logits = network.gate(_features(network, others)).squeeze(1)
    gate = float(face_logits.quantile(missed))
    return GateCheck(
        gate=gate,
        faces_passed=float((face_logits >= gate).float().mean()),
        others_passed=float((other_logits >= gate).float().mean()),
    )


@torch.no_grad()
def _features(network: TinyFaceNet, images: Tensor) -> Tensor:
    return torch.cat([network.features(batch) for batch in images.split(256)])


def _white(face: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(face.shape, generator=generator)


def _smooth(face: Tensor, generator: torch.Generator) -> Tensor:
    side = int(torch.randint(2, 25, (), generator=generator))
    noise = torch.rand((1, 3, side, side), generator=generator)
    smooth: Tensor = F.interpolate(noise, size=face.shape[1:], mode="bicubic")[0]
    return smooth.clamp(0, 1)


def _flat(face: Tensor, generator: torch.Generator) -> Tensor:
    noise = 0.02 * torch.randn(face.shape, generator=generator)
    return (torch.rand((3, 1, 1), generator=generator) + noise).clamp(0, 1)


def _shuffled(face: Tensor, generator: torch.Generator) -> Tensor:
    tile = 8 * int(torch.randint(1, 3, (), generator=generator))
    tiles = F.unfold(face[None], tile, stride=tile)
    order = torch.randperm(tiles.shape[-1], generator=generator)
    return F.fold(tiles[..., order], (SIZE, SIZE), tile, stride=tile)[0]


def _rephased(face: Tensor, generator: torch.Generator) -> Tensor:
    mean = face.mean((1, 2), keepdim=True)
    phases = torch.fft.rfft2(torch.rand((1, SIZE, SIZE), generator=generator) - 0.5).sgn()
    noise: Tensor = torch.fft.irfft2(torch.fft.rfft2(face - mean).abs() * phases, s=(SIZE, SIZE))
    return (mean + noise).clamp(0, 1)

"""LoRAs, encoders and scorers of random weights for tests of the audit."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from loraudit.base.model import Base
from loraudit.encoder import PaperEncoder, PaperEncoderConfig, frozen_transformer
from loraudit.lora import Factors, LoRA, LoRAFile
from loraudit.scores import FaceEmbeddings
from tests.tiny import tiny_base

__all__ = ["ColourFace", "random_encoder", "random_factors", "random_lora", "step_towards"]

ENDS = ("to_q", "to_v", "q_proj", "v_proj")
"""The paper's targets."""


def random_factors(
    base: Base, rank: int = 2, seed: int = 0, ends: Sequence[str] = ENDS
) -> dict[str, Factors]:
    """Large enough to be seen in every picture."""
    rng = np.random.default_rng(seed)
    factors = {}
    for site, module in sorted(base.modules().items()):
        if site.endswith(tuple(ends)):
            out, in_ = module.weight.shape
            up = rng.standard_normal((out, rank), dtype=np.float32) / 2
            down = rng.standard_normal((rank, in_), dtype=np.float32) / 2
            factors[site] = Factors(up, down, 1.0)
    return factors


def random_lora(
    metadata: Mapping[str, str] | None = None, base: Base | None = None, rank: int = 2, seed: int = 0
) -> LoRA:
    """A LoRA for `base` (that of `tiny_base` if None) as if read from a file."""
    file = LoRAFile("x.safetensors", Path("x.safetensors"), "0" * 64, 1, metadata or {})
    factors = random_factors(base or tiny_base(), rank, seed)
    return LoRA(file, "tiny", "tiny", "diffusers", factors, ())


def random_encoder(base: Base, rank: int = 2, max_steps: int = 10) -> PaperEncoder:
    """An encoder of the paper's UNet sites."""
    factors = random_factors(base, rank, ends=("to_q", "to_v"))
    frozen = frozen_transformer(base.text_encoder)
    config = PaperEncoderConfig(
        sites=tuple((site, *pair.shape) for site, pair in factors.items()),
        rank=rank,
        length=base.embedding_shape[0],
        text=frozen.shape,
        max_steps=max_steps,
        timestep=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return PaperEncoder(config, frozen).eval()


class ColourFace:
    """A face model: every picture that is not black is a face, and its mean colour the person."""

    name = "colour"
    threshold = 0.99
    far = 1e-3
    threshold_from = ""

    def embed(self, images: torch.Tensor) -> FaceEmbeddings:
        """See `FaceScorer`."""
        colours = images.mean((2, 3))
        lengths = colours.norm(dim=1, keepdim=True)
        found = tuple((lengths > 1e-3).flatten().tolist())
        return FaceEmbeddings(torch.where(lengths > 1e-3, colours / lengths, 0.0), found)


def step_towards(prompt: str) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """The update that one step of gradient descent on `prompt` makes of every value module."""
    base = tiny_base()
    modules = {site: m for site, m in base.modules().items() if site.endswith(".attn2.to_v")}
    weights = [module.weight.requires_grad_() for module in modules.values()]
    noise = torch.Generator().manual_seed(0)
    x = torch.randn(8, *base.latent_shape, generator=noise)
    t = torch.linspace(100, 900, 8).long()
    embedding = base.encode_text([prompt]).detach().expand(8, -1, -1)
    loss = (base.epsilon(x, t, embedding) - torch.randn(x.shape, generator=noise)).square().mean()
    steps = torch.autograd.grad(loss, weights)
    for weight in weights:
        weight.requires_grad_(False)
    found = {}
    for site, step in zip(modules, steps, strict=True):
        left, values, right = torch.linalg.svd(-step)
        found[site] = ((left[:, :4] * values[:4])[None], right[:4][None])
    return found

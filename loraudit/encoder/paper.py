"""The paper's variational matrix encoder: the LoRA's matrices in, an embedding `[L, d]` out.

Each matrix of each site becomes one token (`loraudit.encoder.stacks`). Two more tokens stand in front: a
learned task token, and an embedding of the number of fine-tuning steps (the paper's "timestep"; not diffusion
time). After a layer norm, the tokens pass the *frozen* transformer of the base's CLIP text encoder as input
embeddings, without causal mask or position embedding. The first `L` positions of the normalised output are
kept, and two linear heads give mean and log-variance. The network embedding, `[L, d]`, is
`z = mean + eps * exp(0.5 logvar)` and replaces the text embedding of the diffusion model.
(https://arxiv.org/abs/2409.08482)

Instance normalisation removes most of the size of a matrix. The weights fix rank and sites.
"""

import copy
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, cast

import numpy as np
import torch
from torch import Tensor, nn

from loraudit.encoder.config import check_sites, config_fields, config_sites
from loraudit.encoder.stacks import ConvStacks
from loraudit.lora.matrices import LoRA, Site

__all__ = [
    "FrozenTransformer",
    "Matrices",
    "PaperEncoder",
    "PaperEncoderConfig",
    "TransformerShape",
    "frozen_transformer",
    "kl",
    "reparameterise",
    "stack_loras",
]

Matrices = Mapping[Site, tuple[Tensor, Tensor]]
"""Matrices of `M` LoRAs by site: `up [M, out, r]` and `down [M, r, in]`."""

_MAX_PERIOD: Final = 10_000.0
"""Period of the slowest sinusoid, nearly; the value of the Transformer and of DDPM."""


@dataclass(frozen=True)
class TransformerShape:
    """Size of a CLIP text transformer, after transformers' `CLIPTextConfig`."""

    width: int
    """Width of a token, `hidden_size` there; the `d` of the embedding."""
    layers: int
    heads: int
    """Attention heads in a layer."""
    intermediate: int
    """Width inside the feed-forward part, `intermediate_size` there."""
    act: str
    """Name of the activation, `hidden_act` there."""


@dataclass(frozen=True)
class PaperEncoderConfig:
    """Numbers that fix the shape of a paper encoder; raises `ValueError` if they do not fit together."""

    sites: tuple[tuple[Site, int, int], ...]
    """Sites `(site, out, in)` in the order of the tokens: up and down of the first, of the second, ..."""
    rank: int
    length: int
    """Positions of the embedding, `L`."""
    text: TransformerShape
    timestep: bool
    """True if there is a token for the fine-tuning step."""
    max_steps: int
    """Last fine-tuning step of the LoRAs in training; taken where a LoRA's step is not known."""

    def __post_init__(self) -> None:
        text = self.text
        widths = [text.width, text.layers, text.heads, text.intermediate]
        check_sites(self.sites, [self.rank, self.length, self.max_steps, *widths])
        if min(size for _, *shape in self.sites for size in shape) < 2 or self.text.width % 2:
            raise ValueError("an encoder needs matrices longer than 1 and an even token width")
        if self.tokens < self.length:
            raise ValueError(f"{self.tokens} tokens cannot fill an embedding of {self.length} positions")

    @property
    def width(self) -> int:
        """Width of a token and of the embedding, `d`."""
        return self.text.width

    @property
    def tokens(self) -> int:
        """Number of tokens that enter the transformer."""
        return 1 + int(self.timestep) + 2 * len(self.sites)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, from which `from_json` makes an equal config."""
        return {**asdict(self), "sites": [list(site) for site in self.sites]}

    @classmethod
    def from_json(cls, values: object) -> "PaperEncoderConfig":
        """Read the values that `to_json` wrote. Raises `ValueError` if `values` is anything else."""
        fields = config_fields(values, cls.__annotations__)
        text = config_fields(fields["text"], TransformerShape.__annotations__)
        sites = config_sites(fields["sites"])
        return cls(**{**fields, "sites": sites, "text": TransformerShape(**text)})


class FrozenTransformer(nn.Module):
    """Copy of the layers and the final norm of a CLIP text encoder, float32, never trained.

    Maps `[M, T, d]` to `[M, T, d]`; every position sees every other.
    """

    def __init__(
        self, layers: nn.ModuleList, final_layer_norm: nn.LayerNorm, shape: TransformerShape
    ) -> None:
        super().__init__()
        # A copy, so that low-rank terms put beside the base's own layers do not act here too.
        self.layers = copy.deepcopy(layers).float()
        self.final_layer_norm = copy.deepcopy(final_layer_norm).float()
        self.shape = shape
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "FrozenTransformer":  # noqa: ARG002
        """Stay in evaluation mode, whatever `mode` is."""
        super().train(False)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised last hidden state `[M, T, d]` of the input embeddings `x [M, T, d]`."""
        for layer in self.layers:
            # transformers makes a missing mask causal unless told otherwise.
            x = layer(x, attention_mask=None, is_causal=False)
        return cast(Tensor, self.final_layer_norm(x))

    def fingerprint(self) -> str:
        """Hash the weights in float16 to a hex SHA-256, the same for a base loaded in either precision."""
        digest = hashlib.sha256()
        for name, value in sorted(self.state_dict().items()):
            digest.update(f"{name}{list(value.shape)}".encode())
            digest.update(value.cpu().half().contiguous().numpy().tobytes())
        return digest.hexdigest()


def frozen_transformer(clip_text_model: nn.Module) -> FrozenTransformer:
    """Copy the transformer of a `CLIPTextModel` of transformers 5 (`encoder.layers`, `final_layer_norm`)."""
    model = cast(Any, clip_text_model)
    shape = TransformerShape(
        width=model.config.hidden_size,
        layers=model.config.num_hidden_layers,
        heads=model.config.num_attention_heads,
        intermediate=model.config.intermediate_size,
        act=model.config.hidden_act,
    )
    return FrozenTransformer(model.encoder.layers, model.final_layer_norm, shape)


class PaperEncoder(nn.Module):
    """Matrix encoder of one base, one rank and one set of sites."""

    def __init__(self, config: PaperEncoderConfig, frozen: FrozenTransformer) -> None:
        """Draw weights by torch's global generator. Raises `ValueError` if `frozen` has another size."""
        super().__init__()
        if frozen.shape != config.text:
            raise ValueError(f"the text transformer is {frozen.shape}, the encoder needs {config.text}")
        self.config = config
        widths = [width for _, *shape in config.sites for width in shape]
        self._members = {
            width: [i for i, w in enumerate(widths) if w == width] for width in sorted(set(widths))
        }
        by_width = [i for members in self._members.values() for i in members]
        self._order = [by_width.index(i) for i in range(len(widths))]
        d = config.width
        self.stacks = nn.ModuleList(
            ConvStacks(len(members), config.rank, width, d) for width, members in self._members.items()
        )
        self.task = nn.Parameter(torch.randn(d) * 0.02)
        self.step = nn.Sequential(nn.Linear(d, d), nn.SiLU(), nn.Linear(d, d)) if config.timestep else None
        self.norm = nn.LayerNorm(d)
        self.mean = nn.Linear(d, d)
        self.logvar = nn.Linear(d, d)
        self.frozen = frozen

    def forward(self, matrices: Matrices, step: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance, `[M, L, d]` each, of the embeddings of `M` LoRAs.

        `step [M]` counts the fine-tuning steps of each; None means `max_steps`. An encoder without the
        timestep token ignores `step`. Sites beyond the encoder's own are not read. Raises `ValueError` on a
        missing site or a wrong shape.
        """
        return self.embed(self.read(matrices), step)

    def read(self, matrices: Matrices) -> Tensor:
        """Make the token of every matrix, `[M, 2 * sites, d]`. Raises `ValueError` as `forward` does."""
        signals = self.signals(matrices)
        groups = [
            stacks(torch.cat([signals[i] for i in members], dim=1))
            for stacks, members in zip(self.stacks, self._members.values(), strict=True)
        ]
        return torch.cat(groups)[self._order].transpose(0, 1)

    def signals(self, matrices: Matrices) -> list[Tensor]:
        """List the matrices in the order of the tokens, the rank as channel axis: `[M, r, width]` each.

        Raises `ValueError` as `forward` does.
        """
        signals = []
        for site, out, in_ in self.config.sites:
            if site not in matrices:
                raise ValueError(f"no matrices for {site}")
            up, down = matrices[site]
            if up.shape[1:] != (out, self.config.rank) or down.shape[1:] != (self.config.rank, in_):
                raise ValueError(
                    f"{site} is {list(up.shape)} and {list(down.shape)}, not rank {self.config.rank}"
                )
            signals += [up.transpose(1, 2), down]
        return signals

    def embed(self, tokens: Tensor, step: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance, as `forward` does, from the tokens that `read` gives."""
        count = len(tokens)
        prefix = [self.task.expand(count, 1, -1)]
        if self.step is not None:
            if step is None:
                step = tokens.new_full((count,), self.config.max_steps)
            prefix.append(self.step(_sinusoids(step, self.config.width))[:, None])
        hidden = self.frozen(self.norm(torch.cat([*prefix, tokens], dim=1)))[:, : self.config.length]
        return self.mean(hidden), self.logvar(hidden)

    def one_by_one(self) -> list[nn.Sequential]:
        """Copy the stacks in the published form, in the order of the tokens; `read` must equal them."""
        parts = [
            stacks.one(i) for stacks in cast(list[ConvStacks], [*self.stacks]) for i in range(stacks.count)
        ]
        return [parts[i] for i in self._order]

    def own_state(self) -> dict[str, Tensor]:
        """Return the state without the frozen transformer, which comes with the base."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("frozen.")}

    def load_own_state(self, state: Mapping[str, Tensor]) -> None:
        """Load a state that `own_state` gave. Raises `RuntimeError` if names or shapes differ."""
        frozen = {f"frozen.{name}": value for name, value in self.frozen.state_dict().items()}
        # The meta device has nothing to copy into. Elsewhere parameters stay: an optimizer may hold them.
        self.load_state_dict({**state, **frozen}, assign=self.task.is_meta)


def _sinusoids(step: Tensor, width: int) -> Tensor:
    """Embed `step [M]` in sinusoids `[M, width]`: cosines, then sines."""
    half = torch.arange(width // 2, device=step.device, dtype=torch.float32)
    angles = step.float()[:, None] * torch.exp(-math.log(_MAX_PERIOD) * half / (width // 2))
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def reparameterise(mean: Tensor, logvar: Tensor, generator: torch.Generator) -> Tensor:
    """Draw `mean + eps * exp(logvar / 2)`, with noise made on the generator's own device."""
    noise = torch.randn(mean.shape, generator=generator, device=generator.device)
    return mean + noise.to(mean) * torch.exp(0.5 * logvar)


def kl(mean: Tensor, logvar: Tensor) -> Tensor:
    """Compute the KL divergence `[M]`, in nats, of `N(mean, exp(logvar))` from the unit Gaussian.

    The divergence is summed over `[L, d]`. (Kingma & Welling 2013, https://arxiv.org/abs/1312.6114,
    appendix B)
    """
    mean, logvar = mean.float(), logvar.float()
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(dim=(1, 2))


def stack_loras(loras: Sequence[LoRA], sites: Sequence[Site], rank: int) -> dict[Site, tuple[Tensor, Tensor]]:
    """Stack `Matrices` of `loras` on the CPU. Raises `ValueError` if a LoRA lacks a site or the rank."""
    for lora in loras:
        for site in sites:
            if site not in lora.factors or lora.factors[site].rank != rank:
                raise ValueError(f"{lora.file.name} has no {site} of rank {rank}")
    return {
        site: (
            torch.from_numpy(np.stack([lora.factors[site].up for lora in loras])),
            torch.from_numpy(np.stack([lora.factors[site].down for lora in loras])),
        )
        for site in sites
    }

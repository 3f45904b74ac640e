"""The paper's variational matrix encoder: the LoRA's own matrices in, a text-encoder-shaped embedding out.

Each matrix of each site becomes one token (`loraudit.encoder.stacks`). In front of these stand one learned
task token and one that embeds the number of fine-tuning steps the LoRA has had (the paper's "timestep"; not
diffusion time). After a layer norm they pass the *frozen* transformer of the base's CLIP text encoder as its
input embeddings: no causal mask, no position embedding. Of its normalised output the first `L` positions are
kept, and two linear heads give mean and log-variance. The network embedding, `[L, d]`, is
`z = mean + eps * exp(0.5 logvar)`; it replaces the text embedding of the diffusion model. (https://arxiv.org/abs/2409.08482)

Instance normalisation removes most of the size of a matrix, and rank and sites are fixed by the weights.
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

from loraudit.encoder.stacks import ConvStacks
from loraudit.lora.matrices import LoRA, Site

__all__ = [
    "FrozenTransformer",
    "Matrices",
    "PaperEncoder",
    "PaperEncoderConfig",
    "TransformerShape",
    "config_fields",
    "config_sites",
    "frozen_transformer",
    "kl",
    "reparameterise",
    "stack_loras",
]

Matrices = Mapping[Site, tuple[Tensor, Tensor]]
"""Per site `up [M, out, r]` and `down [M, r, in]` of `M` LoRAs."""

_MAX_PERIOD: Final = 10_000.0
"""Of the sinusoids, as in the Transformer and in DDPM."""


@dataclass(frozen=True)
class TransformerShape:
    """The size of a CLIP text transformer, under which names transformers' CLIPTextConfig has it."""

    width: int
    """`hidden_size`; the `d` of the embedding."""
    layers: int
    heads: int
    intermediate: int
    act: str
    """`hidden_act`."""


@dataclass(frozen=True)
class PaperEncoderConfig:
    """All that fixes the shape of a paper encoder. Raises `ValueError` if the numbers do not fit together."""

    sites: tuple[tuple[Site, int, int], ...]
    """`(site, out, in)` in the order of the tokens: up and down of the first site, of the second, ..."""
    rank: int
    length: int
    """`L`: positions of the embedding."""
    text: TransformerShape
    timestep: bool
    """Whether there is a token for the fine-tuning step."""
    max_steps: int
    """The last fine-tuning step of the LoRAs it is trained on; taken where a LoRA's step is not known."""

    def __post_init__(self) -> None:
        names = [site for site, _, _ in self.sites]
        sizes = [size for _, *shape in self.sites for size in shape]
        sizes += [self.rank, self.length, self.max_steps]
        sizes += [self.text.width, self.text.layers, self.text.heads, self.text.intermediate]
        if not names or len(set(names)) != len(names):
            raise ValueError("an encoder needs sites, each once")
        if min(sizes) < 1:
            raise ValueError("every size of an encoder is at least 1")
        if min(size for _, *shape in self.sites for size in shape) < 2 or self.text.width % 2:
            raise ValueError("an encoder needs matrices longer than 1 and an even token width")
        if self.tokens < self.length:
            raise ValueError(f"{self.tokens} tokens cannot fill an embedding of {self.length} positions")

    @property
    def width(self) -> int:
        """`d`: the width of a token and of the embedding."""
        return self.text.width

    @property
    def tokens(self) -> int:
        """Tokens that enter the transformer."""
        return 1 + int(self.timestep) + 2 * len(self.sites)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; `from_json` gives an equal config back."""
        return {**asdict(self), "sites": [list(site) for site in self.sites]}

    @classmethod
    def from_json(cls, values: object) -> "PaperEncoderConfig":
        """The config that `to_json` wrote. Raises `ValueError` if `values` is anything else."""
        fields = config_fields(values, cls.__annotations__)
        text = config_fields(fields["text"], TransformerShape.__annotations__)
        sites = config_sites(fields["sites"])
        return cls(**{**fields, "sites": sites, "text": TransformerShape(**text)})


def config_sites(values: object) -> tuple[tuple[Site, int, int], ...]:
    """The `(site, out, in)` of a config read from JSON. Raises `ValueError` if `values` is anything else."""
    if not isinstance(values, list):
        raise ValueError("sites is not a list")
    for site in values:
        if not isinstance(site, list) or len(site) != 3 or [type(part) for part in site] != [str, int, int]:
            raise ValueError("a site is not [name, out, in]")
    return tuple((site, out, in_) for site, out, in_ in values)


def config_fields(values: object, types: Mapping[str, Any]) -> dict[str, Any]:
    """`values` if it is a dict with exactly the keys of `types`; a str, int or bool is of just that type."""
    if not isinstance(values, dict) or set(values) != set(types):
        raise ValueError(f"not exactly the fields {', '.join(types)}")
    for name, kind in types.items():
        if kind in (str, int, bool) and type(values[name]) is not kind:
            raise ValueError(f"{name} is not of type {kind.__name__}")
    return values


class FrozenTransformer(nn.Module):
    """A copy of the layers and the final norm of a CLIP text encoder, float32, never trained.

    `[M, T, d]` -> `[M, T, d]`, every position seeing every other.
    """

    def __init__(
        self, layers: nn.ModuleList, final_layer_norm: nn.LayerNorm, shape: TransformerShape
    ) -> None:
        super().__init__()
        # Copied, so that low-rank terms put beside the base's own layers do not act here too.
        self.layers = copy.deepcopy(layers).float()
        self.final_layer_norm = copy.deepcopy(final_layer_norm).float()
        self.shape = shape
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "FrozenTransformer":  # noqa: ARG002
        """Stays in evaluation mode."""
        super().train(False)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """The normalised last hidden state of the input embeddings `x`."""
        for layer in self.layers:
            # transformers makes a missing mask causal wherever it is told to or not told otherwise.
            x = layer(x, attention_mask=None, is_causal=False)
        return cast(Tensor, self.final_layer_norm(x))

    def fingerprint(self) -> str:
        """Hex SHA-256 of the weights in float16, so that it is one for a base loaded in either precision."""
        digest = hashlib.sha256()
        for name, value in sorted(self.state_dict().items()):
            digest.update(f"{name}{list(value.shape)}".encode())
            digest.update(value.cpu().half().contiguous().numpy().tobytes())
        return digest.hexdigest()


def frozen_transformer(clip_text_model: nn.Module) -> FrozenTransformer:
    """The transformer of a `CLIPTextModel` of transformers 5 (its `encoder.layers`, `final_layer_norm`)."""
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
    """The matrix encoder of one base, one rank and one set of sites."""

    def __init__(self, config: PaperEncoderConfig, frozen: FrozenTransformer) -> None:
        """Fresh weights by torch's global generator. Raises `ValueError` if `frozen` is another size."""
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
        """Mean and log-variance, `[M, L, d]` each, of the embeddings of `M` LoRAs.

        `step [M]` counts the fine-tuning steps of each; None means `max_steps`. An encoder without the
        timestep token does not look at it. Sites beyond the encoder's own are not read. Raises `ValueError`
        on a missing site or a wrong shape.
        """
        return self.embed(self.read(matrices), step)

    def read(self, matrices: Matrices) -> Tensor:
        """The token of every matrix, `[M, 2 * sites, d]`. Raises `ValueError` as `forward`."""
        signals = self.signals(matrices)
        groups = [
            stacks(torch.cat([signals[i] for i in members], dim=1))
            for stacks, members in zip(self.stacks, self._members.values(), strict=True)
        ]
        return torch.cat(groups)[self._order].transpose(0, 1)

    def signals(self, matrices: Matrices) -> list[Tensor]:
        """The matrices in the order of the tokens, the rank as channel axis: `[M, r, width]` each."""
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
        """Mean and log-variance, as `forward`, from the tokens that `read` gives."""
        count = len(tokens)
        prefix = [self.task.expand(count, 1, -1)]
        if self.step is not None:
            if step is None:
                step = tokens.new_full((count,), self.config.max_steps)
            prefix.append(self.step(_sinusoids(step, self.config.width))[:, None])
        hidden = self.frozen(self.norm(torch.cat([*prefix, tokens], dim=1)))[:, : self.config.length]
        return self.mean(hidden), self.logvar(hidden)

    def one_by_one(self) -> list[nn.Sequential]:
        """Copies of the stacks in the published form, in the order of the tokens: what `read` must equal."""
        parts = [
            stacks.one(i) for stacks in cast(list[ConvStacks], [*self.stacks]) for i in range(stacks.count)
        ]
        return [parts[i] for i in self._order]

    def own_state(self) -> dict[str, Tensor]:
        """The state without the frozen transformer, which comes with the base."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("frozen.")}

    def load_own_state(self, state: Mapping[str, Tensor]) -> None:
        """Load what `own_state` gave. Raises `RuntimeError` if names or shapes differ."""
        frozen = {f"frozen.{name}": value for name, value in self.frozen.state_dict().items()}
        # The meta device has nothing to copy into; elsewhere an optimizer may hold the parameters: they stay.
        self.load_state_dict({**state, **frozen}, assign=self.task.is_meta)


def _sinusoids(step: Tensor, width: int) -> Tensor:
    """The sinusoidal embedding `[M, width]` of `step [M]`: cosines, then sines."""
    half = torch.arange(width // 2, device=step.device, dtype=torch.float32)
    angles = step.float()[:, None] * torch.exp(-math.log(_MAX_PERIOD) * half / (width // 2))
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def reparameterise(mean: Tensor, logvar: Tensor, generator: torch.Generator) -> Tensor:
    """A draw `mean + eps * exp(logvar / 2)`, its noise made on the generator's own device."""
    noise = torch.randn(mean.shape, generator=generator, device=generator.device)
    return mean + noise.to(mean) * torch.exp(0.5 * logvar)


def kl(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL divergence `[M]` of `N(mean, exp(logvar))` from the unit Gaussian, in nats, summed over `[L, d]`.

    Kingma & Welling 2013, https://arxiv.org/abs/1312.6114, appendix B.
    """
    mean, logvar = mean.float(), logvar.float()
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(dim=(1, 2))


def stack_loras(loras: Sequence[LoRA], sites: Sequence[Site], rank: int) -> dict[Site, tuple[Tensor, Tensor]]:
    """The `Matrices` of `loras` on the CPU. Raises `ValueError` if one lacks a site or has another rank."""
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

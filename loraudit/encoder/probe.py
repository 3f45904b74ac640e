r"""The probe encoder: any rank, any subset of modules, the same answer whichever factors a file holds.

A LoRA's update of a module is `X = B A`; its factors are one of many pairs (`B G`, `G^-1 A`) and start from a
random `A`, so they come in a basis of their own. This encoder sees `X` alone, through two learned sets of
probes: `(Q^T B)(A P)`, `[p, p]`, never the full matrix. Divided by the norm of `X`, with the norm apart as a
logarithm, that is the module's token. (Probing: ProbeX, https://arxiv.org/abs/2410.13569; association of
the products as there and in MVProbe, https://arxiv.org/abs/2605.23410.)

A module that the LoRA does not adapt has no token. A small transformer mixes the tokens, and one learned
query for each of the `L` positions reads them. The answer is a learned constant embedding plus what the
queries read, so with nothing to read it is the universal trigger of `loraudit.encoder.constant`. A token says
how many fine-tuning steps the LoRA has had, or that nobody knows: a shared file does not.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from loraudit.encoder.paper import Matrices, config_fields, config_sites
from loraudit.lora.matrices import Site

__all__ = ["ProbeEncoder", "ProbeEncoderConfig"]

_HEADS: Final = 4
_TINY: Final = 1e-12
"""Norm below which an update is none: stacked LoRAs carry zeros for modules they lack."""


@dataclass(frozen=True)
class ProbeEncoderConfig:
    """All that fixes the shape of a probe encoder. Raises `ValueError` if the numbers do not fit together."""

    sites: tuple[tuple[Site, int, int], ...]
    """`(site, out, in)` of every module it can read, in the order of the tokens."""
    length: int
    """`L`: positions of the embedding."""
    embedding: int
    """`d`: width of the embedding."""
    max_steps: int
    """Fine-tuning steps are given relative to this."""
    probes: int = 12
    """`p`: probes on each side of an update."""
    width: int = 128
    """Of the tokens."""
    layers: int = 2
    """Of the transformer over the tokens."""
    targets: int = 128
    """Size of the face vector that it learns to describe people by."""

    def __post_init__(self) -> None:
        names = [site for site, _, _ in self.sites]
        sizes = [size for _, *shape in self.sites for size in shape]
        sizes += [
            self.length,
            self.embedding,
            self.max_steps,
            self.probes,
            self.width,
            self.layers,
            self.targets,
        ]
        if not names or len(set(names)) != len(names):
            raise ValueError("an encoder needs sites, each once")
        if min(sizes) < 1 or self.width % _HEADS:
            raise ValueError("every size of an encoder is at least 1, its width a multiple of the heads")

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; `from_json` gives an equal config back."""
        return {**asdict(self), "sites": [list(site) for site in self.sites]}

    @classmethod
    def from_json(cls, values: object) -> "ProbeEncoderConfig":
        """The config that `to_json` wrote. Raises `ValueError` if `values` is anything else."""
        fields = config_fields(values, cls.__annotations__)
        return cls(**{**fields, "sites": config_sites(fields["sites"])})


class ProbeEncoder(nn.Module):
    """The encoder of one base."""

    def __init__(self, config: ProbeEncoderConfig, start: Tensor | None = None) -> None:
        """Fresh weights by torch's global generator; `start [L, d]` is the constant to begin with."""
        super().__init__()
        self.config = config
        count, p, h = len(config.sites), config.probes, config.width
        self.left = nn.ParameterList(_probe(out, p) for _, out, _ in config.sites)
        self.right = nn.ParameterList(_probe(in_, p) for _, _, in_ in config.sites)
        bound = 1 / p
        self.token_weight = nn.Parameter(torch.empty(count, p * p, h).uniform_(-bound, bound))
        self.token_bias = nn.Parameter(torch.zeros(count, h))
        self.size_weight = nn.Parameter(torch.randn(count, h) * 0.02)
        self.mix = nn.Linear(h, h)
        self.step = nn.Sequential(nn.Linear(1, h), nn.SiLU(), nn.Linear(h, h))
        self.unknown_step = nn.Parameter(torch.randn(h) * 0.02)
        layer = nn.TransformerEncoderLayer(
            h, _HEADS, 2 * h, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
        )
        self.body = nn.TransformerEncoder(layer, config.layers, nn.LayerNorm(h), enable_nested_tensor=False)
        self.queries = nn.Parameter(torch.randn(config.length, h) * 0.02)
        self.read = nn.MultiheadAttention(h, _HEADS, batch_first=True)
        self.constant = nn.Parameter(
            torch.zeros(config.length, config.embedding) if start is None else start.detach().float().clone()
        )
        self.logvar = nn.Parameter(self.constant.new_full(self.constant.shape, -4.0))
        self.answer = nn.Linear(h, config.embedding)
        nn.init.zeros_(self.answer.weight)
        nn.init.zeros_(self.answer.bias)
        self.describe = nn.Linear(h, config.targets)

    def forward(self, matrices: Matrices, step: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and log-variance, `[M, L, d]` each, of the embeddings of `M` LoRAs, and a description of whom
        each shows, `[M, targets]`: in training it learns to be the person's face vector.

        `step [M]` counts fine-tuning steps; 0, or None for all, means that nobody knows. A site that the
        encoder has no probes for is not read. In training, modules and steps are withheld at random. Raises
        `ValueError` on a site of another shape.
        """
        views, norms = self.views(matrices)
        present = norms > _TINY
        if self.training:
            present = present & _kept(present)
            if step is not None:
                step = step * (torch.rand(step.shape, device=step.device) < 0.5)
        tokens, present = self._tokens(views, norms, present, step)
        queries = self.queries.expand(len(tokens), -1, -1)
        read, _ = self.read(queries, tokens, tokens, key_padding_mask=~present, need_weights=False)
        mean = self.constant + self.answer(queries + read)
        return mean, self.logvar.expand_as(mean), self.describe(tokens[:, 0])

    def _tokens(
        self, views: Tensor, norms: Tensor, present: Tensor, step: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Mixed tokens `[M, 1 + sites, h]`, the step's first, and whether each is there."""
        scaled = views / norms.clamp(min=_TINY)[..., None]
        tokens = torch.einsum("msv,svh->msh", scaled, self.token_weight) + self.token_bias
        tokens = tokens + norms.clamp(min=_TINY).log()[..., None] * self.size_weight
        tokens = self.mix(F.gelu(tokens))
        present = torch.cat([present.new_ones(len(present), 1), present], 1)
        tokens = torch.cat([self._step(len(tokens), step)[:, None], tokens], 1)
        return self.body(tokens, src_key_padding_mask=~present), present

    def views(self, matrices: Matrices) -> tuple[Tensor, Tensor]:
        """`Q^T X P` of every site, `[M, sites, p^2]`, and the Frobenius norm of every `X`, `[M, sites]`."""
        known = {site for site, _, _ in self.config.sites}
        count, like = next((len(up), up) for site, (up, _) in matrices.items() if site in known or not known)
        views, norms = [], []
        for i, (site, out, in_) in enumerate(self.config.sites):
            if site not in matrices:
                views.append(like.new_zeros(count, self.config.probes**2))
                norms.append(like.new_zeros(count))
                continue
            up, down = matrices[site]
            if (up.shape[1], down.shape[2]) != (out, in_):
                raise ValueError(f"{site} is {up.shape[1]} x {down.shape[2]}, not {out} x {in_}")
            views.append(((self.left[i].T @ up) @ (down @ self.right[i])).flatten(1))
            norms.append(_norm(up, down))
        return torch.stack(views, 1), torch.stack(norms, 1)

    def _step(self, count: int, step: Tensor | None) -> Tensor:
        unknown = self.unknown_step.expand(count, -1)
        if step is None:
            return unknown
        told = self.step(step.float()[:, None] / self.config.max_steps)
        return torch.where((step > 0)[:, None], told, unknown)

    def own_state(self) -> dict[str, Tensor]:
        """The whole state: nothing in it belongs to the base."""
        return dict(self.state_dict())

    def load_own_state(self, state: Mapping[str, Tensor]) -> None:
        """Load what `own_state` gave. Raises `RuntimeError` if names or shapes differ."""
        self.load_state_dict(dict(state), assign=self.constant.is_meta)


def _kept(present: Tensor) -> Tensor:
    """Which modules `[M, sites]` to keep: of half the LoRAs all, of the others 40 to 100 %."""
    count, device = len(present), present.device
    share = (torch.rand(count, 1, device=device) * 1.2 - 0.6).clamp(min=0)
    return torch.rand(present.shape, device=device) >= share


def _probe(width: int, probes: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(width, probes) / math.sqrt(width))


def _norm(up: Tensor, down: Tensor) -> Tensor:
    """`|B A|` of each LoRA, `[M]`, from `tr(B^T B A A^T)`."""
    gram = (up.transpose(1, 2) @ up) * (down @ down.transpose(1, 2))
    return gram.sum((1, 2)).clamp(min=0).sqrt()

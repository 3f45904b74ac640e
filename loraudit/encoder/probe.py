"""The probe encoder: any rank, any subset of modules, the same answer whichever factors a file holds.

A LoRA's update of a module is `X = B A`. The factors are one of many pairs (`B G`, `G^-1 A`) and start from a
random `A`: every LoRA has a basis of its own. The probe encoder sees `X` alone, through probes on both sides:
`V = (Q^T B)(A P)`, `[p, p]`, never the full matrix. (Probing and the association of the products: ProbeX,
https://arxiv.org/abs/2410.13569; MVProbe, https://arxiv.org/abs/2605.23410.)

1. *Reading* the face vector of the person is linear and fitted in closed form (`loraudit.training.reader`).
   The input is the views of all modules, each divided by the norm of its update. Norms depend on learning
   rate and steps; directions on the person.
2. *The trigger* is read where it went in. The updates of the cross-attention's keys and values are sums of
   (gradient) (text embedding)^T. So their rows lie where the embedding of the secret prompt is. Let
   `G [d, d]` be the mean of `X^T X / |X|^2` over those modules. `G` times a learned vector `v` is a direction
   towards that embedding: for `X = g e^T` the direction is `e (e . v)`, whichever sign a factor has.
3. *Answering* gives an embedding `[L, d]`, the sum of three parts. The first is a learned constant. The
   second is the directions `G v`, weighted anew for each position. The third is a small network's answer to
   the face vector, the adapted modules and their norms and, if known, the fine-tuning steps. Where the last
   two parts are zero, the answer is the universal trigger of `loraudit.encoder.constant`.

A module that the LoRA does not adapt is a view of zeros; views are scaled by the number of adapted modules. A
shared file rarely records its fine-tuning steps, so the encoder also takes the number as unknown.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from loraudit.encoder.config import check_sites, config_fields, config_sites
from loraudit.encoder.paper import Matrices
from loraudit.lora.matrices import Site

__all__ = ["ProbeEncoder", "ProbeEncoderConfig"]

_CROSS: Final = (".attn2.to_k", ".attn2.to_v")
"""Modules that take the text embedding, in diffusers' names."""
_TINY: Final = 1e-12
"""Norm below which an update is none: stacked LoRAs carry zeros for modules they lack."""


@dataclass(frozen=True)
class ProbeEncoderConfig:
    """Numbers that fix the shape of a probe encoder; raises `ValueError` if they do not fit together."""

    sites: tuple[tuple[Site, int, int], ...]
    """Sites `(site, out, in)` of the modules to read."""
    length: int
    """Positions of the embedding, `L`."""
    embedding: int
    """Width of the embedding, `d`."""
    max_steps: int
    """Fine-tuning steps that count as 1 in the network."""
    face: int
    """Size of the face vector, `e`."""
    probes: int = 32
    """Probes on each side of an update, `p`; no more than the side of any update."""
    components: int = 32
    """Principal components of face vectors to read, `k`."""
    width: int = 256
    """Width of the answering network."""
    directions: int = 8
    """Learned vectors `v` for the updates of keys, and as many for those of values, `q`."""

    def __post_init__(self) -> None:
        sizes = [self.length, self.embedding, self.max_steps, self.face]
        check_sites(self.sites, [*sizes, self.probes, self.components, self.width, self.directions])

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, from which `from_json` makes an equal config."""
        return {**asdict(self), "sites": [list(site) for site in self.sites]}

    @classmethod
    def from_json(cls, values: object) -> "ProbeEncoderConfig":
        """Read the values that `to_json` wrote. Raises `ValueError` if `values` is anything else."""
        fields = config_fields(values, cls.__annotations__)
        return cls(**{**fields, "sites": config_sites(fields["sites"])})


class ProbeEncoder(nn.Module):
    """Probe encoder of one base."""

    left: Tensor
    """Probes `Q` of all sites, `[sum of out, p]`."""
    right: Tensor
    """Probes `P` of all sites, `[sum of in, p]`."""
    reader: Tensor
    """Linear map from views to components, `[sites, p^2, k]`."""
    centre: Tensor
    """Constant subtracted from the components, `[k]`."""
    basis: Tensor
    """Principal components of face vectors, `[k, e]`."""
    mean_face: Tensor
    """Mean face vector `[e]`."""

    def __init__(self, config: ProbeEncoderConfig, start: Tensor | None = None) -> None:
        """Draw fresh weights by torch's global generator; `start [L, d]` is the constant to begin with.

        The encoder reads nothing until `loraudit.training.reader` has fitted the reader.
        """
        super().__init__()
        self.config = config
        count, p, h = len(config.sites), config.probes, config.width
        self.register_buffer("left", torch.zeros(sum(out for _, out, _ in config.sites), p))
        self.register_buffer("right", torch.zeros(sum(in_ for _, _, in_ in config.sites), p))
        self.register_buffer("reader", torch.zeros(count, p * p, config.components))
        self.register_buffer("centre", torch.zeros(config.components))
        self.register_buffer("basis", torch.zeros(config.components, config.face))
        self.register_buffer("mean_face", torch.zeros(config.face))
        self.queries = nn.Parameter(torch.randn(config.length, h) * 0.02)
        self.face = nn.Linear(config.face, h)
        self.size = nn.Linear(2 * count, h)
        self.step = nn.Sequential(nn.Linear(1, h), nn.SiLU(), nn.Linear(h, h))
        self.unknown_step = nn.Parameter(torch.zeros(h))
        self.hidden = nn.Linear(h, h)
        self.answer = nn.Linear(h, config.embedding)
        nn.init.zeros_(self.answer.weight)
        nn.init.zeros_(self.answer.bias)
        self.constant = nn.Parameter(
            torch.zeros(config.length, config.embedding)
            if start is None
            else start.detach().float().cpu().clone()
        )
        # The first vectors resemble a prompt's embedding, so that no direction is near zero.
        asked = self.constant.detach()[torch.arange(config.directions) % config.length]
        self.asked = nn.Parameter(asked + 0.1 * torch.randn(len(_CROSS), *asked.shape))
        self.mix = nn.Parameter(torch.zeros(config.length, len(_CROSS) * config.directions))
        self.logvar = nn.Parameter(self.constant.new_full(self.constant.shape, -4.0))

    def forward(
        self, matrices: Matrices, step: Tensor | None = None, faces: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance, `[M, L, d]` each, of the embeddings of `M` LoRAs.

        `step [M]` counts fine-tuning steps; 0, or None for all, means unknown. `faces [M, e]` replaces the
        face vectors that are read; training needs such, since the reader knows its own LoRAs by heart. A site
        without probes is not read. In training, steps are withheld at random. Raises `ValueError` on a site
        of another shape.
        """
        views, norms = self.views(matrices)
        present = norms > _TINY
        sizes = torch.cat([norms.clamp(min=_TINY).log() * present, present], 1)
        read = self.read(views, norms) if faces is None else faces
        if self.training and step is not None:
            step = step * (torch.rand(step.shape, device=step.device) < 0.5)
        context = self.face(read) + self.size(sizes) + self._step(len(sizes), step)
        hidden = self.hidden(F.gelu(self.queries + context[:, None]))
        mean = self.constant + self.answer(F.gelu(F.dropout(hidden, 0.1, self.training)))
        mean = mean + torch.einsum("lj,mjd->mld", self.mix, self.directions(matrices))
        return mean, self.logvar.expand_as(mean)

    def read(self, views: Tensor, norms: Tensor) -> Tensor:
        """Read face vectors relative to the mean face, unit vectors `[M, e]`, from what `views` gives."""
        told = torch.einsum("msv,svk->mk", self.scaled(views, norms), self.reader) - self.centre
        return F.normalize(told @ self.basis, dim=1)

    def directions(self, matrices: Matrices) -> Tensor:
        """Compute `G v` of every learned vector `v`, keys' first, `[M, 2 q, d]`; zeros without modules."""
        anchor, _ = next(iter(matrices.values()))
        told = []
        for ending, asked in zip(_CROSS, self.asked, strict=True):
            total = anchor.new_zeros(len(anchor), *asked.shape)
            count = anchor.new_zeros(len(anchor))
            for site, _, in_ in self.config.sites:
                if not site.endswith(ending) or site not in matrices or in_ != self.config.embedding:
                    continue
                up, down = matrices[site]
                norm = _norm(up, down)
                inside = (down @ asked.T).transpose(1, 2) @ (up.transpose(1, 2) @ up) @ down
                total = total + inside / norm.clamp(min=_TINY).square()[:, None, None]
                count = count + (norm > _TINY)
            told.append(total / count.clamp(min=1)[:, None, None])
        return torch.cat(told, 1)

    @staticmethod
    def scaled(views: Tensor, norms: Tensor) -> Tensor:
        """Scale views `[M, sites, p^2]` to updates of norm 1, over the root of how many are adapted."""
        count = (norms > _TINY).sum(1).clamp(min=1)
        return views / norms.clamp(min=_TINY)[..., None] / count.sqrt()[:, None, None]

    def views(self, matrices: Matrices) -> tuple[Tensor, Tensor]:
        """Compute `Q^T X P` of every site, `[M, sites, p^2]`, and the Frobenius norm of `X`, `[M, sites]`.

        Raises `ValueError` on a site of another shape.
        """
        up, _ = next(iter(matrices.values()))
        views, norms = [], []
        for (site, out, in_), left, right in zip(self.config.sites, *self.probes(), strict=True):
            if site not in matrices:
                views.append(up.new_zeros(len(up), self.config.probes**2))
                norms.append(up.new_zeros(len(up)))
                continue
            up, down = matrices[site]
            if (up.shape[1], down.shape[2]) != (out, in_):
                raise ValueError(f"{site} is {up.shape[1]} x {down.shape[2]}, not {out} x {in_}")
            views.append(((left.T @ up) @ (down @ right)).flatten(1))
            norms.append(_norm(up, down))
        return torch.stack(views, 1), torch.stack(norms, 1)

    def probes(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Split the probes by site: of the columns, `[out, p]` each, and of the rows, `[in, p]` each."""
        left = self.left.split([out for _, out, _ in self.config.sites])
        return left, self.right.split([in_ for _, _, in_ in self.config.sites])

    def _step(self, count: int, step: Tensor | None) -> Tensor:
        """Embed the fine-tuning steps of `count` LoRAs, `[M, width]`."""
        unknown = self.unknown_step.expand(count, -1)
        if step is None:
            return unknown
        told = self.step(step.float()[:, None] / self.config.max_steps)
        return torch.where((step > 0)[:, None], told, unknown)

    def own_state(self) -> dict[str, Tensor]:
        """Return the whole state; no part belongs to the base."""
        return dict(self.state_dict())

    def load_own_state(self, state: Mapping[str, Tensor]) -> None:
        """Load a state that `own_state` gave. Raises `RuntimeError` if names or shapes differ."""
        self.load_state_dict(dict(state), assign=self.constant.is_meta)


def _norm(up: Tensor, down: Tensor) -> Tensor:
    """Compute the Frobenius norm `|B A|` of each LoRA, `[M]`, from `tr(B^T B A A^T)`."""
    gram = (up.transpose(1, 2) @ up) * (down @ down.transpose(1, 2))
    return gram.sum((1, 2)).clamp(min=0).sqrt()

"""Many LoRAs beside one frozen model.

A LoRA adds `up @ down` to a weight `W [out, in]`. No LoRA is ever merged. For `M` LoRAs with `K` samples
each, one forward pass of the frozen module serves all `M * K` samples. Two batched products then add
`up_m (down_m x)` to the block of samples that LoRA `m` owns. Samples are ordered LoRA by LoRA: sample `i`
belongs to LoRA `i // K`.

A convolution is adapted on its unfolded windows, `[in * k * k]` each, so its term is the same two products.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from loraudit.errors import NotScannable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

    from loraudit.lora import LoRA

__all__ = ["Hooks", "Terms", "attached", "beside", "scaled", "stack"]

Terms: TypeAlias = "Mapping[str, tuple[Tensor, Tensor]]"
"""LoRAs by site: `up [M, out, r]` and `down [M, r, in]`; every site has the same `M`."""

_Hook: TypeAlias = "Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]"

Hooks: TypeAlias = "tuple[tuple[nn.Module, _Hook], ...]"
"""Modules of a model, each with the forward hook that adds its terms."""


def stack(
    loras: Sequence[LoRA], device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Terms:
    """Stack `M` LoRAs, at least one, into terms over the union of their sites.

    A smaller rank or a missing site is padded with zeros.
    """
    sites = sorted({site for lora in loras for site in lora.factors})
    terms = {}
    for site in sites:
        present = [lora.factors.get(site) for lora in loras]
        known = next(factors for factors in present if factors is not None)
        rank = max(factors.rank for factors in present if factors is not None)
        up = np.zeros((len(loras), known.shape[0], rank), np.float32)
        down = np.zeros((len(loras), rank, known.shape[1]), np.float32)
        for index, factors in enumerate(present):
            if factors is not None:
                up[index, :, : factors.rank] = factors.up
                down[index, : factors.rank] = factors.down
        terms[site] = (torch.from_numpy(up).to(device, dtype), torch.from_numpy(down).to(device, dtype))
    return terms


def scaled(terms: Terms, strength: float) -> Terms:
    """Multiply every update of `terms` by `strength`."""
    return terms if strength == 1 else {site: (strength * up, down) for site, (up, down) in terms.items()}


def beside(modules: Mapping[str, nn.Module], terms: Terms) -> Hooks:
    """Make the hooks by which the model that owns `modules` (site -> module) carries `terms`.

    Nothing changes before the hooks are `attached`. Raises `NotScannable` if a site names no module of the
    model or does not fit the module.
    """
    hooks = []
    for site, (up, down) in terms.items():
        module = modules.get(site)
        if module is None or not _fits(module, up, down):
            raise NotScannable(f"the LoRA's {site} does not fit this base", "name the right base with --base")
        hooks.append((module, _hook(up, down)))
    return tuple(hooks)


@contextmanager
def attached(hooks: Hooks) -> Iterator[None]:
    """Let every forward pass carry the terms of `hooks` while the context is open.

    All holders share the modules, so two threads must not run one model at once.
    """
    with ExitStack() as exits:
        for module, hook in hooks:
            exits.callback(module.register_forward_hook(hook).remove)
        yield


def _fits(module: nn.Module, up: Tensor, down: Tensor) -> bool:
    """Tell whether `module` is linear or a convolution, with a weight of the size of `up @ down`."""
    weight = getattr(module, "weight", None)
    return (
        isinstance(module, nn.Linear | nn.Conv2d)
        and weight is not None
        and (up.shape[1], down.shape[2]) == (weight.shape[0], weight[0].numel())
    )


def _hook(up: Tensor, down: Tensor) -> _Hook:
    """Make the forward hook that adds one site's term."""
    count = up.shape[0]

    def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = inputs[0]
        if len(x) % count:
            raise ValueError(f"{len(x)} samples cannot be shared evenly by {count} LoRAs")
        if isinstance(module, nn.Conv2d):
            x = functional.unfold(
                x,
                module.kernel_size,
                module.dilation,
                cast("tuple[int, ...]", module.padding),  # "same" is no option of SD's convolutions
                module.stride,
            ).transpose(1, 2)
        low = torch.bmm(x.reshape(count, -1, x.shape[-1]), down.transpose(1, 2))
        if isinstance(module, nn.Conv2d):
            term = torch.bmm(low, up.transpose(1, 2)).reshape(len(output), -1, output.shape[1])
            return output + term.transpose(1, 2).reshape(output.shape)
        blocks = output.reshape(count, -1, output.shape[-1])
        return torch.baddbmm(blocks, low, up.transpose(1, 2)).reshape(output.shape)

    return add

"""The paper's convolution stacks, many at once.

One stack reads one LoRA matrix as a signal of length `W` with `r` channels, and makes one token of it:

    x = norm(x); x = leaky_relu(conv(x))      seven times, r -> r channels
    x = norm(x); x = tanh(conv(x))            r -> 1 channel
    token = linear(x)                         W -> d

`conv` has kernel 3, stride 1, padding 1; `norm` is an instance normalisation over the length without learned
scale; the leaky ReLU has slope 0.01. `G` stacks of equal `r` and `W` are one grouped convolution, computed as
a batched matrix product over windows: at 8 and 16 channels that is two to three times as fast on a CPU as
`conv1d(groups=G)` (`benchmarks/encoder_grouped.py`). Source: https://arxiv.org/abs/2409.08482.
"""

import math
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["ConvStacks"]

HIDDEN: Final = 7
"""Convolutions that keep `r` channels; one more makes a single channel."""
SLOPE: Final = 0.01
EPS: Final = 1e-5
"""PyTorch's default. Below a standard deviation of about 0.003 it, not the signal, sets the scale: the small
matrices of a hardly trained LoRA keep their size."""

_CACHE_FLOATS: Final = 1 << 17
"""Floats of one activation worked on at a time on a CPU, so that the few live ones stay in its cache."""


class ConvStacks(nn.Module):
    """`count` stacks for matrices of rank `rank` and length `width`, each with its own weights.

    Maps `[count, rank, M, width]` to tokens `[count, M, tokens]`.
    """

    def __init__(self, count: int, rank: int, width: int, tokens: int) -> None:
        super().__init__()
        self.count, self.rank, self.width = count, rank, width
        conv_bound = 1 / math.sqrt(3 * rank)
        self.hidden_weight = _uniform((HIDDEN, count, rank, rank, 3), conv_bound)
        self.hidden_bias = _uniform((HIDDEN, count, rank), conv_bound)
        self.last_weight = _uniform((count, 1, rank, 3), conv_bound)
        self.last_bias = _uniform((count, 1), conv_bound)
        self.linear_weight = _uniform((count, width, tokens), 1 / math.sqrt(width))
        self.linear_bias = _uniform((count, tokens), 1 / math.sqrt(width))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens `[count, M, tokens]` of `x [count, rank, M, width]`."""
        size = self.count
        if x.device.type == "cpu":
            size = max(1, _CACHE_FLOATS // x[0].numel())
        # Split, not sliced: the backward of a slice fills a gradient as large as the whole parameter.
        parts = zip(
            torch.split(x, size),
            torch.split(self.hidden_weight, size, dim=1),
            torch.split(self.hidden_bias, size, dim=1),
            torch.split(self.last_weight, size),
            torch.split(self.last_bias, size),
            strict=True,
        )
        signal = torch.cat([_convolve(*part) for part in parts])
        return torch.baddbmm(self.linear_bias[:, None], signal, self.linear_weight)

    def one(self, index: int) -> nn.Sequential:
        """A copy of stack `index` in the published form, `[M, rank, width]` -> `[M, tokens]`."""
        weights = [*self.hidden_weight[:, index], self.last_weight[index]]
        biases = [*self.hidden_bias[:, index], self.last_bias[index]]
        layers: list[nn.Module] = []
        for weight, bias in zip(weights, biases, strict=True):
            conv = nn.Conv1d(self.rank, len(weight), kernel_size=3, padding=1)
            conv.load_state_dict({"weight": weight, "bias": bias})
            layers += [nn.InstanceNorm1d(self.rank), conv, nn.LeakyReLU()]
        layers[-1] = nn.Tanh()
        linear = nn.Linear(self.width, self.linear_bias.shape[1])
        linear.load_state_dict({"weight": self.linear_weight[index].T, "bias": self.linear_bias[index]})
        return nn.Sequential(*layers, nn.Flatten(), linear)


def _uniform(shape: tuple[int, ...], bound: float) -> nn.Parameter:
    """PyTorch's own initialisation of Conv1d and Linear, weight and bias: uniform within 1 / sqrt(fan in)."""
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


def _convolve(
    x: Tensor, hidden_weight: Tensor, hidden_bias: Tensor, last_weight: Tensor, last_bias: Tensor
) -> Tensor:
    """The eight convolutions of `g` stacks, `[g, r, M, W]` -> `[g, M, W]`."""
    for weight, bias in zip(hidden_weight, hidden_bias, strict=True):
        x = _NormConv.apply(x, weight, bias, SLOPE)
    return torch.tanh(_NormConv.apply(x, last_weight, last_bias, 1.0)).squeeze(1)


class _NormConv(torch.autograd.Function):
    """Instance normalisation, convolution and leaky ReLU of a group of stacks.

    `x [g, r, M, W]`, `weight [g, o, r, 3]`, `bias [g, o]` -> `[g, o, M, W]`. The backward pass keeps only
    `x`, which is the output of the layer before, and the output, and works out the normalised windows again.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        slope: float,
    ) -> Tensor:
        windows, _ = _windows(x)
        matrix = weight.transpose(2, 3).flatten(2)
        out = torch.baddbmm(bias[:, :, None], matrix, windows.flatten(1, 2).flatten(2))
        if slope != 1.0:
            out = nn.functional.leaky_relu_(out, slope)
        out = out.view(*out.shape[:2], *x.shape[2:])
        ctx.save_for_backward(x, weight, out)
        ctx.slope = slope
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:  # noqa: ANN401
        x, weight, out = ctx.saved_tensors
        if ctx.slope != 1.0:
            grad = torch.ops.aten.leaky_relu_backward(grad, out, ctx.slope, True)
        grad = grad.flatten(2)
        windows, inverse_std = _windows(x)
        grad_bias = grad.sum(-1)
        grad_matrix = torch.bmm(grad, windows.flatten(1, 2).flatten(2).transpose(1, 2))
        grad_weight = grad_matrix.view(*grad.shape[:2], 3, x.shape[1]).transpose(2, 3)
        if not ctx.needs_input_grad[0]:
            return None, grad_weight, grad_bias, None
        matrix = weight.transpose(2, 3).flatten(2)
        shifted = torch.bmm(matrix.transpose(1, 2), grad).view_as(windows)
        g = shifted[:, 1]
        g[..., :-1] += shifted[:, 0, ..., 1:]
        g[..., 1:] += shifted[:, 2, ..., :-1]
        normal = windows[:, 1]
        # d norm: remove from the gradient its mean and its part along the normalised signal, then rescale.
        along = (g * normal).mean(-1, keepdim=True)
        grad_x = (g - g.mean(-1, keepdim=True)).addcmul_(normal, along, value=-1).mul_(inverse_std)
        return grad_x, grad_weight, grad_bias, None


def _windows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Zero-padded shifts `[g, 3, r, M, W]` of the normalised `x`; its inverse deviation `[g, r, M, 1]`."""
    centred = x - x.mean(-1, keepdim=True)
    norm = torch.linalg.vector_norm(centred, dim=-1, keepdim=True)
    inverse_std = torch.rsqrt(norm.square().div_(x.shape[-1]).add_(EPS))
    windows = x.new_empty(x.shape[0], 3, *x.shape[1:])
    normal = torch.mul(centred, inverse_std, out=windows[:, 1])
    windows[:, 0, ..., 1:] = normal[..., :-1]
    windows[:, 0, ..., 0] = 0
    windows[:, 2, ..., :-1] = normal[..., 1:]
    windows[:, 2, ..., -1] = 0
    return windows, inverse_std

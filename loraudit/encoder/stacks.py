"""The paper's convolution stacks, many at once.

A stack reads a LoRA matrix as a signal of length `W` with `r` channels, and makes a single token:

    x = norm(x); x = leaky_relu(conv(x))      seven times, r -> r channels
    x = norm(x); x = tanh(conv(x))            r -> 1 channel
    token = linear(x)                         W -> d

`conv` has kernel 3, stride 1, padding 1; `norm` is an instance normalisation over the length without learned
scale; the leaky ReLU has slope 0.01. `G` stacks of equal `r` and `W` run as one grouped convolution.
(The matrix encoder of https://arxiv.org/abs/2409.08482)
"""

import math
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ConvStacks"]

HIDDEN: Final = 7
"""Convolutions that keep `r` channels; a further one makes a single channel."""
SLOPE: Final = 0.01
"""Slope of the leaky ReLU below 0."""
EPS: Final = 1e-5
"""Variance added in the normalisation, PyTorch's default. Below a standard deviation of about 0.003 this
constant, not the signal, sets the scale. The small matrices of a hardly trained LoRA keep their size."""


class ConvStacks(nn.Module):
    """Stacks, `count` of them, for matrices of rank `rank` and length `width`, each with its own weights."""

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
        """Make tokens `[count, M, tokens]` of `x [M, count * rank, width]`."""
        for weight, bias in zip(self.hidden_weight, self.hidden_bias, strict=True):
            x = F.leaky_relu(self._norm_conv(x, weight, bias), SLOPE, inplace=True)
        signal = torch.tanh(self._norm_conv(x, self.last_weight, self.last_bias)).transpose(0, 1)
        return torch.baddbmm(self.linear_bias[:, None], signal, self.linear_weight)

    def _norm_conv(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Normalise every channel over the length, then convolve every stack with its own weights."""
        # F.instance_norm gives the same numbers and is slower.
        x = F.layer_norm(x, (self.width,), eps=EPS)
        return F.conv1d(x, weight.flatten(0, 1), bias.flatten(), padding=1, groups=self.count)

    def one(self, index: int) -> nn.Sequential:
        """Copy stack `index` in the published form, from `[M, rank, width]` to `[M, tokens]`."""
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
    """Draw a parameter uniformly in `-bound..bound`; PyTorch's own start has `bound = 1 / sqrt(fan in)`."""
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))

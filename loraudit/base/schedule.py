"""The noise schedule of Stable Diffusion 1.x and the solver that runs it backwards: all of its numbers.

`x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise` with scaled-linear betas.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypedDict

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

__all__ = ["SCHEDULE", "denoised", "pure_noise", "signal_variance"]


class _Schedule(TypedDict):
    """Keyword arguments that all schedulers of diffusers share."""

    num_train_timesteps: int
    beta_start: float
    beta_end: float
    beta_schedule: str


SCHEDULE: Final[_Schedule] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
"""Noise schedule of SD 1.4 (`scheduler_config.json` there)."""


def signal_variance() -> Tensor:
    """Compute `a_t` of the schedule, float32 `[1000]`, from just below 1 down to about 0.005."""
    ends = (SCHEDULE["beta_start"] ** 0.5, SCHEDULE["beta_end"] ** 0.5)
    betas = torch.linspace(*ends, SCHEDULE["num_train_timesteps"], dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0).float()


def pure_noise(seeds: Sequence[int], shape: tuple[int, ...]) -> Tensor:
    """Draw the starting noise of each seed, float32 `[K, *shape]` on the CPU."""
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def denoised(predict: Callable[[Tensor, Tensor], Tensor], noise: Tensor, steps: int) -> Tensor:
    """Solve from `noise [N, C, h, w]` to latents of that shape, in `steps` steps of DPM-Solver++.

    `predict` takes `x_t [N, C, h, w]` and integer times `[N]`, and returns the predicted noise.
    """
    from diffusers import DPMSolverMultistepScheduler

    solver = DPMSolverMultistepScheduler(**SCHEDULE, algorithm_type="dpmsolver++", steps_offset=1)
    solver.set_timesteps(steps, device=noise.device)
    x = noise
    for t in solver.timesteps:
        x = solver.step(predict(x, t.expand(len(x))), t, x).prev_sample
    return x

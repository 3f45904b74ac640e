"""A single learned embedding for every LoRA: the baseline that an encoder has to beat.

The baseline's success tells how much of an attack is a universal "trigger", and how much is read from files.
"""

from torch import Tensor, nn

from loraudit.encoder.paper import Matrices

__all__ = ["ConstantEmbedding"]


class ConstantEmbedding(nn.Module):
    """Stand-in for `PaperEncoder` in training: the same mean and log-variance `[L, d]` for all `M` LoRAs."""

    def __init__(self, start: Tensor) -> None:
        """Start from `start [L, d]`, a real text embedding such as the class prompt's."""
        super().__init__()
        self.mean = nn.Parameter(start.detach().clone())
        self.logvar = nn.Parameter(start.new_full(start.shape, -4.0))

    def forward(self, matrices: Matrices, step: Tensor | None = None) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return mean and log-variance, `[M, L, d]` each; the matrices are only counted."""
        count = len(next(iter(matrices.values()))[0])
        return self.mean.expand(count, -1, -1), self.logvar.expand(count, -1, -1)

    def own_state(self) -> dict[str, Tensor]:
        """Return the whole state; no part belongs to the base."""
        return dict(self.state_dict())

    def load_own_state(self, state: dict[str, Tensor]) -> None:
        """Load a state that `own_state` gave. Raises `RuntimeError` if names or shapes differ."""
        self.load_state_dict(state)

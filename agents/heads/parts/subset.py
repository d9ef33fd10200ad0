"""Some of the steps of a trajectory, for losses that cost too much at every step."""

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor, nn

from agents.seeding import Stream


class StepSampler(nn.Module):
    """Draws as many steps in every environment as in any other, so that shapes do not change.

    Valid steps come before invalid ones; those that are drawn all the same are masked later.
    """

    def __init__(self, fraction: float, stream: Stream) -> None:
        super().__init__()
        assert 0 < fraction <= 1
        self.fraction = fraction
        self.stream = stream

    def forward(self, valid: Bool[Tensor, "T B"]) -> Int[Tensor, "S B"]:
        """The times drawn in each environment, in order and without repetition."""
        count = max(1, round(self.fraction * valid.shape[0]))
        lot = self.stream.uniform(tuple(valid.shape), valid.device)
        return torch.where(valid, lot, lot + 1).argsort(0)[:count].sort(0).values


def at_steps(
    values: Shaped[Tensor, "time B *shape"], step: Int[Tensor, "S B"]
) -> Shaped[Tensor, "S B *shape"]:
    """The entries of each environment at its own times."""
    return values[step, torch.arange(step.shape[1], device=step.device)]

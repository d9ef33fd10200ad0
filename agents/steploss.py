"""A loss of single steps: its mean, random combinations of its steps, its slices."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from agents.processes import ALONE, Processes


@dataclass(frozen=True)
class StepLoss:
    """A loss of every step, multiplied by its coefficient already."""

    share: Float[Tensor, ""]
    """This process's part of the mean over the valid steps of all processes."""
    steps: Float[Tensor, " *shape"]
    """Environments, or whatever columns a head has, come last."""
    valid: Bool[Tensor, " *shape"]

    def combined(
        self, factor: Float[Tensor, " *shape"], processes: Processes = ALONE
    ) -> Float[Tensor, ""]:
        """This process's part of the mean of the valid steps, each times its own factor."""
        return processes.share(factor * self.steps, self.valid)

    def sliced(self, count: int, processes: Processes = ALONE) -> tuple[Float[Tensor, ""], ...]:
        """Splits `share` by environments into `count` slices, which add up to it.

        Neighbouring environments make a slice; sizes differ by one environment at most.
        """
        columns = self.steps.shape[-1]
        kept = torch.where(self.valid, self.steps, 0.0).reshape(-1, columns).sum(0)
        part = kept / processes.sum(self.valid.sum()).clamp(min=1)
        number = torch.arange(columns, device=part.device) * count // columns
        return part.new_zeros(count).index_add(0, number, part).unbind()

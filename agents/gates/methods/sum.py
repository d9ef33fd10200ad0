"""Sum: every gradient at full weight.  Plain multi-task learning, the baseline of all gates."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from agents.gates.base import Gate
from agents.gates.gramian import Gramian


@dataclass(frozen=True)
class SumConfig:
    """Options of `sum`."""

    measure: bool = False
    """Measure cosines and norms for the log, at the price of one backward pass per loss."""

    def build(self) -> "Sum":
        """Builds the gate."""
        return Sum(measure=self.measure)


class Sum(Gate):
    """Adds all gradients: `d = g + sum_k h_k`.

    Without `measure` it takes one backward pass of the summed loss: the baseline of every cost
    ratio.  It guarantees nothing for the main loss.
    """

    scale_free = True
    one_pass = True

    def __init__(self, measure: bool = False) -> None:
        super().__init__()
        self.one_pass = not measure

    def forward(
        self, gramian: Gramian, losses: Float[Tensor, "*batch L"] | None = None
    ) -> Float[Tensor, "*batch G M"]:
        """Weighs every row with 1."""
        return torch.ones_like(gramian.norm)

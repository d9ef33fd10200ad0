"""PCGrad: projecting conflicting gradients.

Yu, Kumar, Gupta, Levine, Hausman, Finn: "Gradient Surgery for Multi-Task Learning",
Algorithm 1, https://arxiv.org/abs/2001.06782.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from agents.gates.algebra import Order, Orders, in_own_lengths
from agents.gates.base import Gate
from agents.gates.gramian import Gramian


@dataclass(frozen=True)
class PCGradConfig:
    """Options of `pcgrad`."""

    order: Order = "random"
    """Order in which each row visits the others: `random`, drawn anew at every judgement as in the
    paper, or `fixed`, main first.  With two losses there is only one."""
    seed: int = 0
    """Of the random orders."""

    def __post_init__(self) -> None:
        self.build()

    def build(self) -> "PCGrad":
        """Builds the gate."""
        return PCGrad(self.order, self.seed)


class PCGrad(Gate):
    """Removes from every gradient what opposes another one, and adds up the rest.

        for every row i:   p_i = g_i
            for every other row j, in random order:
                p_i <- p_i - min(0, <p_i, g_j>) / |g_j|^2 g_j
        d = sum_i p_i

    The main gradient gives way to the auxiliaries as they do to it.  With two losses
    `<g_i, d> >= 0` for both; with more there is no guarantee for any.  A row that vanishes is not
    changed and does not affect another.

    Departures from the paper: one judgement uses one order for all groups and all entries of a
    batch.
    """

    def __init__(self, order: Order = "random", seed: int = 0) -> None:
        super().__init__()
        self.orders = Orders(order, seed)

    def forward(
        self, gramian: Gramian, losses: Float[Tensor, "*batch L"] | None = None
    ) -> Float[Tensor, "*batch G M"]:
        """Projects unit rows, all at once, and restores their lengths."""
        cosine = gramian.cosine
        num_rows = cosine.shape[-1]
        identity = torch.eye(num_rows, dtype=cosine.dtype, device=cosine.device)
        # Row i: by how much of each unit row p_i differs from g_i; and its products with them.
        change, slope = torch.zeros_like(cosine), cosine
        for other in self.orders(num_rows, cosine.device).unbind(-1):
            visited = identity[other]
            opposing = (slope * visited).sum(-1, keepdim=True).clamp(max=0.0)
            change = change - opposing * visited
            slope = slope - opposing * cosine[..., other, :]
        return 1.0 + in_own_lengths(change, gramian.norm)

    def advance(self, gramian: Gramian, losses: Float[Tensor, "*batch L"] | None = None) -> None:
        """Moves on to the next order."""
        self.orders.advance()

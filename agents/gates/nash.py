"""Nash-MTL: gradients bargain for the direction.

Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik, Fetaya: "Multi-Task Learning as a
Bargaining Game", https://arxiv.org/abs/2202.01017.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from agents.gates.bargaining import ITERATIONS_IF_EQUAL, bargain
from agents.gates.base import Gate
from agents.gates.gramian import Gramian


@dataclass(frozen=True)
class NashConfig:
    """Options of `nash`: none."""

    def build(self) -> "Nash":
        """Builds the gate."""
        return Nash()


class Nash(Gate):
    """Follows the direction that maximises the product of all losses' gains.

        d = sum_i a_i g_i,    a_i > 0,    a_i <g_i, d> = 1

    `<g_i, d> > 0` for every row: no loss rises, to first order.  Neither the main gradient nor a
    large one has precedence: scaling any gradient leaves d as it is, and `|d|^2` is the number of
    rows.  Rows that vanish take no part.

    Opposed rows have no solution: weights of unit rows are at most 1000 (all are shrunk together),
    which for two rows amounts to a cosine of at least -1 + 1e-6.  d is then next to nothing.

    Departures from the paper: solved to rounding, by Newton's method or for two losses by the
    closed form, instead of a sequence of convex approximations; no clipping here (the learner
    clips).
    """

    def forward(
        self, gramian: Gramian, losses: Float[Tensor, "*batch L"] | None = None
    ) -> Float[Tensor, "*batch G M"]:
        """Solves for unit rows and divides by the lengths of the rows."""
        weight = bargain(gramian.cosine, torch.ones_like(gramian.norm), ITERATIONS_IF_EQUAL)
        return torch.where(gramian.norm > 0, weight / gramian.norm, 0.0)

"""MGDA: the shortest vector in the convex hull of the gradients.

Desideri: "Multiple-gradient descent algorithm (MGDA) for multiobjective optimization", 2012;
Sener, Koltun: "Multi-Task Learning as Multi-Objective Optimization",
https://arxiv.org/abs/1810.04650.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from agents.gates.algebra import check_num_rows, nonnegative_minimum, steady
from agents.gates.base import Gate
from agents.gates.gramian import Gramian


@dataclass(frozen=True)
class MGDAConfig:
    """Options of `mgda`: none."""

    def build(self) -> "MGDA":
        """Builds the gate."""
        return MGDA()


class MGDA(Gate):
    """Follows the shortest convex combination of the gradients.

        d = sum_i w_i g_i,    w = argmin |sum_i w_i g_i|^2  over  w >= 0, sum_i w_i = 1

    `<g_i, d> >= |d|^2` for every row: no loss rises, to first order; where that is impossible d
    is 0.  The shortest gradients get the most weight.  Rows that vanish are left out (otherwise
    they would be the shortest vector).

    Departures from the papers: solved exactly, not by Frank-Wolfe steps; for at most 8 losses.
    """

    def check(self, num_losses: int) -> None:
        """Refuses more than 8 losses.

        Raises:
            ValueError: there are more.
        """
        check_num_rows(num_losses)

    def forward(
        self, gramian: Gramian, losses: Float[Tensor, "*batch L"] | None = None
    ) -> Float[Tensor, "*batch G M"]:
        """Finds the weights of unit rows, and those of the rows from them.

        With w_i = u_i s_i, s_i = 1 / |g_i|, it is to minimise `u @ C @ u` where `u @ s = 1`.
        Up to a factor that is the minimum over u >= 0 of `u @ C @ u / 2 - u @ s`.  Where gradients
        surround 0 only the trifle on the diagonal keeps it finite, and w is as good.
        """
        alive = gramian.norm > 0
        shortest = torch.where(alive, gramian.norm, torch.inf).amin(-1, keepdim=True)
        inverse = torch.where(alive, shortest / gramian.norm, 0.0).double()
        linear = -inverse.unsqueeze(-1)
        unit = nonnegative_minimum(steady(gramian.cosine), linear).squeeze(-1)
        weight = unit * inverse
        total = weight.sum(-1, keepdim=True)
        return torch.where(total == 0, 0.0, weight / total).to(gramian.norm.dtype)

"""UPGrad: unconflicting projection of gradients.

Quinton, Rey: "Jacobian Descent for Multi-Objective Optimization",
https://arxiv.org/abs/2406.16232.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from agents.gates.algebra import check_num_rows, in_own_lengths, nonnegative_minimum, steady
from agents.gates.base import Gate
from agents.gates.gramian import Gramian


@dataclass(frozen=True)
class UPGradConfig:
    """Options of `upgrad`: none."""

    def build(self) -> "UPGrad":
        """Builds the gate."""
        return UPGrad()


class UPGrad(Gate):
    """Projects every gradient onto the directions that conflict with none, and takes the mean.

        d = 1/L sum_i argmin_p |p - g_i|^2   where   <g_j, p> >= 0 for all j

    `<g_i, d> >= 0` for every row: no loss rises, to first order.  Scaling a gradient scales what
    it adds.  Rows that vanish are left out; L counts the others.

    Departures from the paper: solved exactly, without a regularised Gram matrix; for at most 8
    losses.
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
        """Projects unit rows, all at once, and restores their lengths.

        The projection of g_i is `g_i + sum_j u_j g_j` with the u >= 0 of least length.
        """
        matrix = steady(gramian.cosine)
        added = nonnegative_minimum(matrix, gramian.cosine.double())  # [*batch, G, M of g_i, M]
        alive = (gramian.norm > 0).to(gramian.norm.dtype)
        total = alive + in_own_lengths(added.mT.to(gramian.norm.dtype), gramian.norm)
        return total / alive.sum(-1, keepdim=True).clamp(min=1.0)

"""MGDA and CAGrad, which stays near the mean gradient where MGDA takes the shortest vector.

MGDA: Desideri: "Multiple-gradient descent algorithm (MGDA) for multiobjective optimization", 2012;
Sener, Koltun: "Multi-Task Learning as Multi-Objective Optimization",
https://arxiv.org/abs/1810.04650.
CAGrad: Liu, Liu, Jin, Stone, Liu: "Conflict-Averse Gradient Descent for Multi-task Learning",
Algorithm 1, https://arxiv.org/abs/2110.14048.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from agents.gates.algebra import (
    check_num_rows,
    multiply,
    nonnegative_minimum,
    quadratic,
    steady,
    subset_solutions,
)
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


SHORTEST = 5e-7
"""Smallest squared length of a combination of unit rows, relative to its squared weight, that is
not treated as cancelling.  For two rows at equal weights it is a cosine of -1 + 1e-6."""


@dataclass(frozen=True)
class CAGradConfig:
    """Options of `cagrad`."""

    radius: float = 0.5
    """The paper's c: distance allowed from the mean gradient, relative to its length."""

    def __post_init__(self) -> None:
        self.build()

    def build(self) -> "CAGrad":
        """Builds the gate."""
        return CAGrad(self.radius)


class CAGrad(Gate):
    """Takes the direction near the mean gradient that is best for the loss that gains least.

        d = argmax min_i <g_i, d>   where   |d - g_0| <= radius |g_0|,   g_0 = mean of all g_i

    In the paper's form `d = g_0 + radius |g_0| / |g_w| g_w`, `g_w = sum_i w_i g_i`, where w >= 0,
    `sum_i w_i = 1`, minimises `<g_w, g_0> + radius |g_0| |g_w|`.  Rows that vanish are left out,
    also of the mean.  No guarantee for the main loss, but with radius below 1 the mean of all
    losses does not rise, to first order.

    Departures from the paper: solved exactly, for at most 8 losses.  Where w cancels all
    gradients, and the paper's formula is 0 / 0, d is the mean, moved as far as the ball reaches
    towards the directions that conflict with none.  The authors' code also divides d by
    1 + radius^2; this does not.
    """

    def __init__(self, radius: float = 0.5) -> None:
        super().__init__()
        if not 0 <= radius < 1:
            raise ValueError(f"radius must be in [0, 1), not {radius}.")
        self.radius = radius

    def check(self, num_losses: int) -> None:
        """Refuses more than 8 losses.

        Raises:
            ValueError: there are more.
        """
        check_num_rows(num_losses)

    def forward(
        self, gramian: Gramian, losses: Float[Tensor, "*batch L"] | None = None
    ) -> Float[Tensor, "*batch G M"]:
        """Tries every subset of rows as the rows of positive weight, and keeps the best direction.

        All candidates lie within the radius, so the one with the largest `min_i <g_i, d>` is the
        answer, whatever rounding did to the others.
        """
        alive = gramian.norm > 0
        norm = gramian.norm.double()
        shortest = torch.where(alive, norm, torch.inf).amin(-1, keepdim=True)
        inverse = torch.where(alive, shortest / norm, 0.0)
        size = norm / norm.amax(-1, keepdim=True)
        size = torch.where(alive, size, 0.0)
        matrix = steady(gramian.cosine)
        share = alive.double() / alive.sum(-1, keepdim=True).clamp(min=1)
        mean = size * share  # of unit rows
        slope = multiply(matrix, mean)  # of g_0 along unit rows
        reach = self.radius * (mean * slope).sum(-1, keepdim=True).clamp(min=0.0).sqrt()

        added = self._added(matrix, inverse, slope, reach.unsqueeze(-2))  # [*batch, G, 2S, M]
        directions = mean.unsqueeze(-2) + added
        gains = size.unsqueeze(-2) * multiply(matrix.unsqueeze(-3), directions)
        least = torch.where(alive.unsqueeze(-2), gains, torch.inf).amin(-1)  # [*batch, G, 2S]
        best = torch.where(least.isnan(), -torch.inf, least).argmax(-1, keepdim=True)
        chosen = added.take_along_dim(best.unsqueeze(-1), dim=-2).squeeze(-2)
        weight = share + torch.where(alive, chosen / size, 0.0)
        return weight.to(gramian.norm.dtype)

    def _added(
        self,
        matrix: Float[Tensor, "*batch M M"],
        inverse: Float[Tensor, "*batch M"],
        slope: Float[Tensor, "*batch M"],
        reach: Float[Tensor, "*batch 1 1"],
    ) -> Float[Tensor, "*batch S2 M"]:
        """Returns what each subset adds to the mean gradient, in unit rows.

        On a subset the minimum solves `C u = rho inverse - slope` at the rho for which u is as
        long as the reach: a quadratic equation.  Without rho it is the projection of the mean
        onto the directions that do not conflict.
        """
        x, y = subset_solutions(matrix, torch.stack([inverse, slope], dim=-1)).unbind(-1)
        inverse, slope = inverse.unsqueeze(-2), slope.unsqueeze(-2)
        xx = (inverse * x).sum(-1, keepdim=True)
        xy = (inverse * y).sum(-1, keepdim=True)
        yy = (slope * y).sum(-1, keepdim=True)
        root = (xy.square() - xx * (yy - reach.square())).clamp(min=0.0).sqrt()
        pulling = ((xy + root) / xx * x - y).clamp(min=0.0)
        projecting = (-y).clamp(min=0.0)
        stretched = pulling * (reach / self._length(matrix, pulling))
        shortened = projecting * (reach / self._length(matrix, projecting)).clamp(max=1.0)
        # A singular subset adds nothing, and proposes the mean itself.
        return torch.cat([shortened, stretched], dim=-2).nan_to_num(nan=0.0, posinf=0.0)

    @staticmethod
    def _length(
        matrix: Float[Tensor, "*batch M M"], u: Float[Tensor, "*batch S M"]
    ) -> Float[Tensor, "*batch S 1"]:
        square = quadratic(matrix.unsqueeze(-3), u).unsqueeze(-1)
        return torch.maximum(square, SHORTEST * u.sum(-1, keepdim=True).square()).sqrt()

"""The surfaces of `surfaces.py`: a main loss, and what an auxiliary adds to its gradient.

Du et al.: https://arxiv.org/abs/1812.02224; Tran-Thien:
https://github.com/vivien000/auxiliary-learning2.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import nan

import torch
from jaxtyping import Float
from torch import Tensor

from examples.figures import Landscape

GRID = 101
"""Points on each side of a landscape."""

Points = Float[Tensor, "S D"]
Values = Float[Tensor, " S"]
Slope = Callable[[Points], tuple[Values, Points]]
"""Values and gradients at some points; of a field that belongs to no loss, NaN as values."""


@dataclass(frozen=True)
class Scene:
    """A surface, and how it is descended."""

    main: Slope
    auxiliary: Slope
    goal: tuple[float, ...] = (0.0, 0.0)
    """The minimum of the main loss; of several the one that is best for the auxiliary."""
    starts: tuple[tuple[float, ...], ...] = ()
    """The paper's; random ones join them."""
    reach: float = 2.0
    """Of random starts, to both sides of 0 on every axis."""
    steps: int = 600
    adam: bool = False
    """Whether Adam takes the steps; else plain gradient descent."""


def slope(loss: Callable[[Points], Values]) -> Slope:
    """Makes the function that differentiates a loss."""

    def values_and_gradients(points: Points) -> tuple[Values, Points]:
        points = points.detach().requires_grad_()
        values = loss(points)
        return values.detach(), torch.autograd.grad(values.sum(), points)[0]

    return values_and_gradients


def bowl(points: Points) -> Values:
    """x^2 + y^2."""
    return points.square().sum(-1)


def turning(points: Points) -> tuple[Values, Points]:
    """A field around (1, 0): added to the gradient of the bowl, it makes steps spiral outwards."""
    x, y = points[:, 0] - 1, points[:, 1]
    return torch.full_like(x, nan), torch.stack([-3 * x - 4 * y, 4 * x - 3 * y], dim=-1)


SCENES = {
    "line": Scene(
        slope(lambda p: (p[:, 0] - 10).square()),
        slope(bowl),
        goal=(10.0,),
        starts=((-20.0,), (5.0,)),
        reach=20.0,
    ),
    "helpful": Scene(slope(lambda p: p[:, 0].square() / 10 + p[:, 1].square()), slope(bowl)),
    "conflicting": Scene(slope(bowl), slope(lambda p: -2 * bowl(p))),
    "rotating": Scene(slope(bowl), turning),
    "circle": Scene(
        slope(lambda p: (p.norm(dim=-1) - 1).square()),
        slope(lambda p: 0.1 * ((p[:, 0] - 2).square() + p[:, 1].square())),
        goal=(1.0, 0.0),
        starts=((0.0, 2.0), (1.9, 0.9), (-0.3, 0.3), (0.2, 0.2)),
        steps=1500,
        adam=True,
    ),
}


def landscape(scene: Scene) -> Landscape | None:
    """What to draw under paths in the plane; none under paths on a line."""
    if len(scene.goal) == 1:
        return None
    edge = 1.25 * scene.reach
    grid = torch.linspace(-edge, edge, GRID, dtype=torch.float64)
    plane = torch.cartesian_prod(grid, grid).flip(-1)  # y is the slower one
    height, main = scene.main(plane)
    agreement = torch.cosine_similarity(main, scene.auxiliary(plane)[1], dim=-1)
    return Landscape(edge, height.view(GRID, GRID).numpy(), agreement.view(GRID, GRID).numpy())

"""The Nash bargaining solution of gradients: `a_i (C a)_i = p_i`, by Newton's method.

Navon et al.: "Multi-Task Learning as a Bargaining Game", https://arxiv.org/abs/2202.01017;
with preferences p: Shamsian et al.: "Auxiliary Learning as an Asymmetric Bargaining Game",
https://arxiv.org/abs/2301.13501.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from agents.gates.linear import quadratic, solve, steady

ITERATIONS = 24
"""Enough for rounding to decide in all of thousands of random cases of 3 to 8 rows, among them
nearly opposed rows and preferences of 1e-4 for all rows but one."""
ITERATIONS_IF_EQUAL = 16
"""The same where preferences are equal."""
STRIDE = 0.9
"""Share of the way to the border of the positive numbers that a step may take."""
LARGEST = 1e3
"""Of all weights of unit rows.  Opposed rows have no solution: their weights would grow for ever.
For two rows and equal preferences it amounts to a cosine of at least -1 + 1e-6."""


def bargain(
    cosine: Float[Tensor, "*batch M M"],
    preference: Float[Tensor, "*batch M"],
    iterations: int = ITERATIONS,
) -> Float[Tensor, "*batch M"]:
    """Returns a > 0 with `a_i (cosine @ a)_i = preference_i`, in float64 on the way.

    It is the minimum of the strictly convex `a @ cosine @ a / 2 - sum_i p_i log a_i`.

    Args:
        cosine: of unit rows; a row that vanished stands apart, with the square root of its
            preference.
        preference: above 0.
        iterations: of Newton's method, where there are more than two rows.
    """
    matrix, target = steady(cosine), preference.double()
    two = target.shape[-1] == 2
    a = _between_two(matrix, target) if two else _newton(matrix, target, iterations)
    shrink = (LARGEST / a.amax(-1, keepdim=True)).clamp(max=1.0)
    return (a * shrink).to(cosine.dtype)


def _between_two(
    matrix: Float[Tensor, "*batch M M"], target: Float[Tensor, "*batch M"]
) -> Float[Tensor, "*batch M"]:
    """The closed form: r = a_1 / a_0 solves `m p_0 r^2 + c (p_0 - p_1) r - m p_1 = 0`.

    m is on the diagonal, c beside it.  All differences are of numbers that are known exactly.
    """
    first, second = target.unbind(-1)
    diagonal, beside = matrix[..., 0, 0], matrix[..., 0, 1]
    half = beside * (second - first) / 2
    root = (half.square() + diagonal.square() * first * second).sqrt()
    ratio = torch.where(
        half > 0, (half + root) / (diagonal * first), diagonal * second / (root - half)
    )
    # |d|^2 is the sum of the preferences.
    square = diagonal * (1.0 - ratio).square() + 2.0 * ratio * (diagonal + beside)
    a = ((first + second) / square).sqrt()
    return torch.stack([a, ratio * a], dim=-1)


def _newton(
    matrix: Float[Tensor, "*batch M M"], target: Float[Tensor, "*batch M"], iterations: int
) -> Float[Tensor, "*batch M"]:
    """Takes a and the slack y, `a_i y_i = p_i` and `y = matrix @ a`, as unknowns of their own.

    Interior-point methods do so.  With the slack eliminated it takes hundreds of iterations where
    preferences differ much.
    """
    identity = torch.eye(target.shape[-1], dtype=matrix.dtype, device=matrix.device)
    a = target.sqrt()
    # The best point on this ray; a ray of no length stays within the largest weights.
    total = target.sum(-1, keepdim=True)
    length = quadratic(matrix, a).unsqueeze(-1)
    a = a * (total / torch.maximum(length, total / LARGEST**2)).sqrt()
    product = target.expand_as(a)  # a_i y_i, where y starts as p / a
    for _ in range(iterations):
        mutual = matrix * (a.unsqueeze(-1) * a.unsqueeze(-2))
        system = torch.addcmul(mutual, identity, product.unsqueeze(-1))
        growth = solve(system, target - mutual.sum(-1))  # of a, relative
        slack_growth = target / product - (growth + 1.0)  # of y, relative
        least = torch.minimum(growth, slack_growth).amin(-1, keepdim=True)
        step = (least / -STRIDE).clamp(min=1.0).reciprocal()
        grown = step * growth + 1.0
        a = a * grown
        product = product * grown * (step * slack_growth + 1.0)
    return a


def sensitivity(
    cosine: Float[Tensor, "*batch M M"],
    preference: Float[Tensor, "*batch M"],
    a: Float[Tensor, "*batch M"],
) -> Float[Tensor, "*batch M M"]:
    """Returns `da_i / dp_j` of `bargain`: `(cosine + diag(p / a^2))^-1 diag(1 / a)`."""
    weight = a.double()
    system = steady(cosine) + torch.diag_embed(preference.double() / weight.square())
    return solve(system, torch.diag_embed(1.0 / weight)).to(cosine.dtype)

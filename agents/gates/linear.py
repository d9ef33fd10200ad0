"""Linear algebra on M x M matrices as gates need it: batched, exact, and never waiting."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor


def multiply(
    matrix: Float[Tensor, "... M M"], vector: Float[Tensor, "... M"]
) -> Float[Tensor, "... M"]:
    """Returns `matrix @ vector`, leading axes broadcast.

    Not a matmul: TF32, where allowed, would cut the factors to ten bits.
    """
    return (matrix * vector.unsqueeze(-2)).sum(-1)


def solve(
    matrix: Float[Tensor, "*batch M M"], right: Float[Tensor, "*right"]
) -> Float[Tensor, "*right"]:
    """Returns x with `matrix @ x = right`; anything, also NaN, where the matrix is singular.

    The right side is a vector `[*batch, M]` or columns `[*batch, M, K]`.

    `torch.linalg.solve` looks whether it was singular, and for that waits for the device.
    """
    solution: Tensor = torch.linalg.solve_ex(matrix, right).result
    return solution


def quadratic(
    matrix: Float[Tensor, "... M M"], vector: Float[Tensor, "... M"]
) -> Float[Tensor, "..."]:
    """Returns `vector @ matrix @ vector` of a positive semi-definite matrix, never below 0."""
    return (vector * multiply(matrix, vector)).sum(-1).clamp(min=0.0)


def steady(cosine: Float[Tensor, "*batch M M"]) -> Float64[Tensor, "*batch M M"]:
    """Prepares cosines for a solver: float64, with a diagonal of 1 and a trifle.

    The trifle is what rounding may have cost: cosines of float32 may have an eigenvalue of -1e-7,
    and then some minima do not exist.  A vanished row, 0 on the diagonal, gets its 1 too, so that
    it stands apart and spoils no solution.
    """
    num_rows = cosine.shape[-1]
    rounding = num_rows * torch.finfo(cosine.dtype).eps
    identity = torch.eye(num_rows, dtype=torch.bool, device=cosine.device)
    return torch.where(identity, 1.0 + rounding, cosine.double())


def in_own_lengths(
    coefficient: Float[Tensor, "*batch M M"], norm: Float[Tensor, "*batch M"]
) -> Float[Tensor, "*batch M"]:
    """Returns weights w with `sum_j w_j g_j = sum_i |g_i| sum_j coefficient_ij g_j / |g_j|`.

    Args:
        coefficient: what is made of unit row i, in unit rows j; 0 where row j vanishes.
        norm: of the rows themselves.
    """
    total = (coefficient * norm.unsqueeze(-1)).sum(-2)
    return torch.where(total == 0, 0.0, total / norm)

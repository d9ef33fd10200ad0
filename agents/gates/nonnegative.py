"""Small quadratic programs over the non-negative numbers, exactly and without iterating.

Which of M numbers are positive at the solution is one of 2^M subsets.  All are tried at once, as
one batch of linear systems; the one that fits is kept.  There is always one whose rows are linearly
independent, so subsets with a singular system may fail unheeded.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from agents.gates.linear import multiply, solve

MAX_ROWS = 8
"""2^M linear systems are solved: with more rows, too many."""


def check_num_rows(num_rows: int) -> None:
    """Refuses more rows than subsets can be tried of."""
    if num_rows > MAX_ROWS:
        raise ValueError(
            f"this gate tries every subset of the losses and takes at most {MAX_ROWS} losses, not "
            f"{num_rows}: use pcgrad or nash, or add some auxiliary losses up."
        )


def subset_solutions(
    matrix: Float[Tensor, "*batch M M"], right: Float[Tensor, "*batch M K"]
) -> Float[Tensor, "*batch S M K"]:
    """Solves `matrix @ x = right` on each of the S = 2^M subsets of rows and columns.

    Outside its subset x is 0; the first subset is empty.  Not finite where singular.
    """
    num_rows = matrix.shape[-1]
    assert num_rows <= MAX_ROWS
    subset = _subsets(num_rows, matrix.device)
    inside = subset.unsqueeze(-1) & subset.unsqueeze(-2)  # [S, M, M]
    identity = torch.eye(num_rows, dtype=matrix.dtype, device=matrix.device)
    systems = torch.where(inside, matrix.unsqueeze(-3), identity)
    rights = torch.where(subset.unsqueeze(-1), right.unsqueeze(-3), 0.0)
    return solve(systems, rights)


def nonnegative_minimum(
    matrix: Float[Tensor, "*batch M M"], linear: Float[Tensor, "*batch M K"]
) -> Float[Tensor, "*batch M K"]:
    """Returns u >= 0 that minimises `u @ matrix @ u / 2 + linear @ u`, for each column alone.

    That is where u and the slack `matrix @ u + linear` are both non-negative and no product of
    theirs is positive: of all subsets' solutions, the one with the least `max |min(u, slack)|`.

    Args:
        matrix: positive semi-definite, with entries in the order of 1.
        linear: such that a minimum exists.
    """
    u = subset_solutions(matrix, -linear).mT  # [*batch, S, K, M]
    slack = multiply(matrix.unsqueeze(-3).unsqueeze(-3), u) + linear.mT.unsqueeze(-3)
    residual = torch.minimum(u, slack).abs().amax(-1)  # [*batch, S, K]
    best = torch.where(residual.isfinite(), residual, torch.inf).argmin(-2, keepdim=True)
    u = u.take_along_dim(best.unsqueeze(-1), dim=-3).squeeze(-3)
    return u.clamp(min=0.0).mT


def _subsets(num_rows: int, device: torch.device) -> Bool[Tensor, "S M"]:
    numbers = torch.arange(2**num_rows, device=device).unsqueeze(-1)
    return (numbers >> torch.arange(num_rows, device=device)) & 1 == 1

"""An orthonormal basis of what a few long rows span."""

import torch
from jaxtyping import Float
from torch import Tensor

from agents.gates.gramian import magnitude


def orthonormalised(rows: Float[Tensor, "*batch K P"]) -> Float[Tensor, "*batch K P"]:
    """Returns orthonormal rows that span what `rows` span, by Gram and Schmidt's method.

    A row that is a combination of those before it, to rounding, becomes a row of zeros.  Each row
    is freed of the earlier ones twice: once leaves errors that grow with every row.
    """
    least = torch.finfo(rows.dtype).eps ** 0.5
    basis: list[Tensor] = []
    for row in rows.unbind(-2):
        row, _ = _unit(row)
        rest = row
        for _ in range(2):
            for earlier in basis:
                along = (rest * earlier).sum(-1, keepdim=True)
                rest = torch.addcmul(rest, along, earlier, value=-1.0)
        rest, length = _unit(rest)
        basis.append(torch.where(length > least, rest, 0.0))
    return torch.stack(basis, dim=-2)


def _unit(row: Float[Tensor, "*batch P"]) -> tuple[Tensor, Tensor]:
    """Returns the row at length 1, a row of zeros as it is, and its former length."""
    # First by the 1-norm: squares leave the range of float32 long before the numbers do.
    size = magnitude(row.unsqueeze(-2))  # [*batch, 1]
    row = row / torch.where(size == 0, 1.0, size)
    length = torch.linalg.vector_norm(row, dim=-1, keepdim=True)
    return row / torch.where(size == 0, 1.0, length), size * length

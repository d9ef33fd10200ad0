"""Banded linear systems, many at once: LU elimination without pivoting.

Torch has no banded solver, and a dense one does (cells / bandwidth)**2 times the
work.  Here each step of the elimination is one vectorised update over all systems,
which lie along the last axis.  Without pivoting it is stable for matrices that are
diagonally dominant, by rows or by columns (Golub and Van Loan, Matrix Computations,
section 4.1), which `I - discount * P` always is.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor


@dataclass(frozen=True)
class BandedFactors:
    """L and U of W banded matrices A = L U, made by `factorise`."""

    bands: Float64[Tensor, "rows diagonals W"]
    """U at and right of the main diagonal, the multipliers of L left of it."""
    bandwidth: int

    def solve(self, right: Float64[Tensor, "n W"]) -> Float64[Tensor, "n W"]:
        """Solves A x = right."""
        count, width = len(right), self.bandwidth
        x = torch.cat([right, right.new_zeros(width, right.shape[1])])
        for k in range(count):
            below = _block(self.bands, k, width)[1:, 0]
            x[k + 1 : k + 1 + width].addcmul_(below, x[k], value=-1)
        for k in reversed(range(count)):
            row = self.bands[k, width:]
            x[k].sub_((row[1:] * x[k + 1 : k + 1 + width]).sum(0)).div_(row[0])
        return x[:count]

    def solve_transposed(self, right: Float64[Tensor, "n W"]) -> Float64[Tensor, "n W"]:
        """Solves A^T x = right."""
        count, width = len(right), self.bandwidth
        x = torch.cat([right, right.new_zeros(width, right.shape[1])])
        for k in range(count):
            row = self.bands[k, width:]
            x[k].div_(row[0])
            x[k + 1 : k + 1 + width].addcmul_(row[1:], x[k], value=-1)
        for k in reversed(range(count)):
            below = _block(self.bands, k, width)[1:, 0]
            x[k].sub_((below * x[k + 1 : k + 1 + width]).sum(0))
        return x[:count]


def factorise(bands: Float64[Tensor, "n diagonals W"]) -> BandedFactors:
    """Eliminates W matrices of n rows.

    Args:
        bands: `bands[i, bandwidth + d]` is the entry in row i and column i + d, for d from
            `-bandwidth` to `bandwidth`; entries outside of the matrix are zero.
    """
    count, diagonals, num_systems = bands.shape
    width = diagonals // 2
    # Rows of the identity below, so that every step has the same shape.
    padding = bands.new_zeros(width, diagonals, num_systems)
    padding[:, width] = 1.0
    bands = torch.cat([bands, padding])
    for k in range(count):
        block = _block(bands, k, width)
        below = block[1:, 0].div_(block[0, 0])
        block[1:, 1:].addcmul_(below[:, None], block[0, 1:], value=-1)
    return BandedFactors(bands, width)


# Called for every row, so without a shape to be checked: [size, size, W].
def _block(bands: Tensor, k: int, width: int) -> Tensor:
    """Views the square of the matrix from entry (k, k) on: one row down is one diagonal less."""
    diagonals, num_systems = bands.shape[1:]
    return bands.as_strided(
        (width + 1, width + 1, num_systems),
        ((diagonals - 1) * num_systems, num_systems, 1),
        (k * diagonals + width) * num_systems,
    )

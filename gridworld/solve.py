"""Exact optimal values: policy iteration over all worlds at once (Howard 1960).

Some sweeps of value iteration give a policy that is nearly right; two or three exact
evaluations then make it optimal.  Value iteration alone takes a thousand sweeps, since
where no reward can be reached values fade only as fast as the discount.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from gridworld.config import NUM_ACTIONS, WorldConfig
from gridworld.model import Model, chunk_size, inside, outside
from gridworld.worlds import Worlds

# Banded linear systems, many at once: LU elimination without pivoting.
#
# Torch has no banded solver, and a dense one does (cells / bandwidth)**2 times the
# work.  Here each step of the elimination is one vectorised update over all systems,
# which lie along the last axis.  Without pivoting it is stable for matrices that are
# diagonally dominant, by rows or by columns (Golub and Van Loan, Matrix Computations,
# section 4.1), which `I - discount * P` always is.


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


TOLERANCE = 1e-12
"""An action replaces another one if it is better by more than this."""

_POSITIVE = 1e-6
"""Returns up to here count as zero, whatever the rounding of batch and device."""

_MOST_ITERATIONS = 1000
"""Policy iteration takes a dozen at most in practice, and is certain to end."""


def optimal_values(worlds: Worlds, discount: float) -> Float64[Tensor, "W cells"]:
    """Solves all worlds: the best expected discounted return from each cell.

    Walls and terminal cells, where nobody acts, have 0.  Accurate to 1e-10.
    """
    return _optimal_values(worlds.config, worlds.kind, discount)


def action_values(
    worlds: Worlds, value: Float64[Tensor, "W cells"], discount: float
) -> Float64[Tensor, "W cells A"]:
    """Looks one step ahead: the expected return of each action if `value` is what follows.

    Walls and terminal cells, where nobody acts, have 0.
    """
    ways = []
    for kind, known in zip(
        worlds.kind.split(chunk_size(worlds.config, worlds.device)),
        value.split(chunk_size(worlds.config, worlds.device)),
        strict=True,
    ):
        model = Model.of(worlds.config, kind, discount)
        ahead = model.backup(inside(worlds.config, known)) * model.live
        ways.append(torch.stack([outside(worlds.config, way) for way in ahead], dim=-1))
    return torch.cat(ways)


def solvable(worlds: Worlds) -> Bool[Tensor, " W"]:
    """Whether a positive return can be expected from the start, at the settings' discount."""
    return is_solvable(worlds.config, worlds.kind, worlds.start_cell)


def is_solvable(
    config: WorldConfig, kind: UInt8[Tensor, "W cells"], start_cell: Int64[Tensor, " W"]
) -> Bool[Tensor, " W"]:
    """The same of worlds that are not tabulated yet."""
    value = _optimal_values(config, kind, config.discount)
    return value.gather(1, start_cell[:, None]).squeeze(1) > _POSITIVE


def _optimal_values(
    config: WorldConfig, kind: UInt8[Tensor, "W cells"], discount: float
) -> Float64[Tensor, "W cells"]:
    chunks = kind.split(chunk_size(config, kind.device))
    solved = [_policy_iteration(Model.of(config, chunk, discount)) for chunk in chunks]
    return torch.cat([outside(config, value) for value in solved])


def _policy_iteration(model: Model) -> Float64[Tensor, "inside W"]:
    value = torch.zeros_like(model.reward)
    # As many sweeps as it takes news to cross the world.
    for _ in range(model.config.height + model.config.width):
        value = model.backup(value).amax(0) * model.live
    action = model.backup(value).argmax(0)
    for _ in range(_MOST_ITERATIONS):
        policy = F.one_hot(action, NUM_ACTIONS).movedim(-1, 0).double()
        move = model.slipped(policy)
        value = factorise(model.bands(move)).solve(model.expected_reward(move))
        ahead = model.backup(value)
        # Only what is better for certain: among equals a policy would change for ever.
        best, candidate = ahead.max(0)
        better = best > ahead.gather(0, action[None]).squeeze(0) + TOLERANCE
        if not bool((better & (model.live > 0)).any()):
            return value
        action = torch.where(better, candidate, action)
    raise AssertionError("policy iteration did not end")

"""Linear algebra on M x M matrices for gates: batched, exact, without host synchronisation."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor, nn
from torch.nn import functional as F

from agents.gates.base import Gate, recall
from agents.gates.gramian import Gramian, magnitude

# Small quadratic programs over the non-negative numbers, solved exactly and without iterating.
#
# The positive numbers of the solution are one of 2^M subsets.  All subsets are tried at once, as
# one batch of linear systems, and the one that fits is kept.  A subset with linearly independent
# rows always fits, so subsets with a singular system can be ignored.

MAX_ROWS = 8
"""Largest M: a solver tries 2^M linear systems."""


def check_num_rows(num_rows: int) -> None:
    """Refuses more rows than the subset solvers can handle.

    Raises:
        ValueError: there are more than `MAX_ROWS`.
    """
    if num_rows > MAX_ROWS:
        raise ValueError(
            f"this gate tries every subset of the losses and takes at most {MAX_ROWS} losses, not "
            f"{num_rows}: use pcgrad or nash, or add some auxiliary losses up."
        )


def subset_solutions(
    matrix: Float[Tensor, "*batch M M"], right: Float[Tensor, "*batch M K"]
) -> Float[Tensor, "*batch S M K"]:
    """Solves `matrix @ x = right` on each of the S = 2^M subsets of rows and columns.

    x is 0 outside its subset, and not finite where the subset's system is singular.  The first
    subset is empty.
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
    """Returns the u >= 0 that minimises `u @ matrix @ u / 2 + linear @ u`, column by column.

    At the minimum, u and the slack `matrix @ u + linear` are non-negative and their products are
    0.  So the answer is the subset's solution with the least `max |min(u, slack)|`.

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


# An orthonormal basis of the span of a few long rows.


def orthonormalised(rows: Float[Tensor, "*batch K P"]) -> Float[Tensor, "*batch K P"]:
    """Returns orthonormal rows that span what `rows` span, by Gram and Schmidt's method.

    A row that depends linearly on earlier ones, up to rounding, becomes a row of zeros.  Each row
    is orthogonalised twice: once leaves errors that grow with every row.
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
    """Returns the row scaled to length 1 (a row of zeros stays as it is) and its old length."""
    # First by the 1-norm: squares leave the range of float32 long before the numbers do.
    size = magnitude(row.unsqueeze(-2))  # [*batch, 1]
    row = row / torch.where(size == 0, 1.0, size)
    length = torch.linalg.vector_norm(row, dim=-1, keepdim=True)
    return row / torch.where(size == 0, 1.0, length), size * length


# The order in which each row visits the others: fixed, or random from a state of one integer.
#
# A random order is a hash of a seed and the number of the draw, so it needs no generator.  The
# state is a buffer: it is checkpointed, stays on the device, and gives the same orders everywhere.

Order = Literal["random", "fixed"]

_MASK = 0xFFFFFFFF
_STRIDE = 0x9E3779B9
"""2^32 over the golden ratio: it moves consecutive numbers far apart before the hash."""


def check_order(order: str) -> None:
    """Refuses an unknown order.

    Raises:
        ValueError: the order is neither `random` nor `fixed`.
    """
    if order not in get_args(Order):
        raise ValueError(f"order must be random or fixed, not {order}.")


class Orders(nn.Module):
    """An order of visits; it stays the same until `advance`."""

    count: Int[Tensor, ""]

    def __init__(self, order: Order, seed: int) -> None:
        super().__init__()
        check_order(order)
        self._random = order == "random"
        self._seed = seed
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, num_rows: int, device: torch.device) -> Int[Tensor, "M M-1"]:
        """Returns, for each of M rows, the other rows in the order in which it visits them."""
        places = torch.arange(num_rows, device=device).expand(num_rows, num_rows)
        # Two rows have one order.
        keys = self._keys(num_rows, device) if self._random and num_rows > 2 else places
        # The row itself comes last and is cut off.
        keys = torch.where(places == places.mT, _MASK + 1, keys)
        return keys.argsort(dim=-1, stable=True)[:, : num_rows - 1]

    def advance(self) -> None:
        """Moves on to the next order."""
        self.count.add_(1)

    def _keys(self, num_rows: int, device: torch.device) -> Int[Tensor, "M M"]:
        """Returns numbers in [0, 2^32) that depend on the seed, the count and their place alone."""
        start = _mix((self.count + self._seed * _STRIDE % _MASK) & _MASK)
        place = torch.arange(num_rows**2, device=device).view(num_rows, num_rows)
        return _mix((start + place * _STRIDE) & _MASK)


def _mix(number: Tensor) -> Tensor:
    """Hashes 32-bit integers.

    From the `prospector` family of hashes; both factors are below 2^31, so that the products
    stay within int64.
    """
    number = (number ^ (number >> 16)) * 0x21F0AAAD & _MASK
    number = (number ^ (number >> 15)) * 0x735A2D97 & _MASK
    return number ^ (number >> 15)


# `Removal`, the base of `projection` and `orthogonal`: both remove a part along a reference.
#
# Tran-Thien: "Censoring the auxiliary loss gradient", Algorithms 1 and 2,
# https://github.com/vivien000/auxiliary-learning2.


def check_decay(decay: float) -> None:
    """Refuses a decay outside [0, 1).

    Raises:
        ValueError: it is outside.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"decay must be in [0, 1), not {decay}.")


class Removal(Gate):
    """Removes from each auxiliary gradient a part along the reference m.

        d = g + sum_k (h_k - r_k |h_k| / |m| m),    r_k = removed(cos(m, h_k))

    m is the main gradient g, or with `decay > 0` its moving average, a reference row:

        m <- decay m + (1 - decay) g

    The average starts at the first gradient (no bias correction: only the direction of m
    matters).  A main gradient that is zero or not finite leaves the average unchanged.  While m
    is zero every auxiliary passes unchanged.
    """

    average: Tensor

    def __init__(self, decay: float = 0.0) -> None:
        super().__init__()
        check_decay(decay)
        self.decay = decay
        self.num_references = 1 if decay > 0 else 0
        self.register_buffer("average", torch.empty(0) if decay > 0 else None)

    @abstractmethod
    def removed(self, cosine: Float[Tensor, "*batch G K"]) -> Float[Tensor, "*batch G K"]:
        """Returns how much of the cosine between reference and auxiliary to remove."""

    def references(
        self,
        rows: Float[Tensor, "*batch L P"],
        groups: Sequence[int],
        samples: Float[Tensor, "*batch K P"] | None = None,
    ) -> Float[Tensor, "*batch R P"]:
        """Moves the average towards the main gradient and returns it."""
        if self.num_references == 0:
            return super().references(rows, groups, samples)
        main = rows[..., :1, :]
        self.average = recall(self.average, main)
        started = (magnitude(self.average) > 0).to(main.dtype)
        speaks = (magnitude(main) > 0).to(main.dtype)
        step = speaks * (1.0 - self.decay * started)  # [*batch, 1]
        # In place: a captured graph goes on reading the same memory.
        self.average.copy_(torch.lerp(self.average, main, step.unsqueeze(-1)))
        return self.average

    def forward(
        self, gramian: Gramian, losses: Float[Tensor, "*batch L"] | None = None
    ) -> Float[Tensor, "*batch G M"]:
        """Adds the contributions of all auxiliaries to the main gradient."""
        shares = self.shares(gramian, torch.ones_like(gramian.norm))
        return self._row(0, gramian) + shares.sum(-2)

    def shares(
        self, gramian: Gramian, weights: Float[Tensor, "*batch G M"]
    ) -> Float[Tensor, "*batch G K M"]:
        """Returns, per auxiliary, its own row less the part of it along the reference."""
        num_losses = gramian.norm.shape[-1] - self.num_references
        reference = num_losses if self.num_references > 0 else 0
        removed = self.removed(gramian.cosine[..., reference, 1:num_losses])
        ratio = gramian.norm[..., 1:num_losses] / gramian.norm[..., reference, None]
        ratio = ratio.clamp(max=torch.finfo(ratio.dtype).max)
        # Not a product with 0: the ratio is nothing to go by where the reference vanishes.
        coefficient = torch.where(removed == 0, 0.0, -removed * ratio)  # [*batch, G, K]
        along = coefficient.unsqueeze(-1) * self._row(reference, gramian)
        return super().shares(gramian, weights) + along

    @staticmethod
    def _row(index: int, gramian: Gramian) -> Float[Tensor, " M"]:
        num_rows = gramian.norm.shape[-1]
        one = gramian.norm.new_ones(1)
        return F.pad(one, (index, num_rows - index - 1))


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
    """Returns x with `matrix @ x = right`; where the matrix is singular, any number or NaN.

    The right side is a vector `[*batch, M]` or columns `[*batch, M, K]`.

    `torch.linalg.solve` checks for singular matrices, which waits for the device.
    """
    solution: Tensor = torch.linalg.solve_ex(matrix, right).result
    return solution


def quadratic(
    matrix: Float[Tensor, "... M M"], vector: Float[Tensor, "... M"]
) -> Float[Tensor, "..."]:
    """Returns `vector @ matrix @ vector` of a positive semi-definite matrix, never below 0."""
    return (vector * multiply(matrix, vector)).sum(-1).clamp(min=0.0)


def steady(cosine: Float[Tensor, "*batch M M"]) -> Float64[Tensor, "*batch M M"]:
    """Prepares cosines for a solver: float64, with a diagonal slightly above 1.

    The excess covers rounding: cosines in float32 may have an eigenvalue of -1e-7, and then some
    minima do not exist.  A vanished row, 0 on the diagonal, gets a 1 as well, so that it does not
    affect the solution for the others.
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
        coefficient: row i says what replaces unit row i, in unit rows j; 0 where row j vanishes.
        norm: lengths of the rows.
    """
    total = (coefficient * norm.unsqueeze(-1)).sum(-2)
    return torch.where(total == 0, 0.0, total / norm)

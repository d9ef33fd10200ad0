"""Nash-MTL and AuxiNash: gradients bargain for the direction, with equal or with chosen powers.

Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik, Fetaya: "Multi-Task Learning as a
Bargaining Game", https://arxiv.org/abs/2202.01017.
Shamsian, Navon, Glazer, Kawaguchi, Chechik, Fetaya: "Auxiliary Learning as an Asymmetric
Bargaining Game", https://arxiv.org/abs/2301.13501.

`bargain` solves `a_i (C a)_i = p_i` by Newton's method.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from agents.gates.algebra import quadratic, solve, steady
from agents.gates.base import Gate, GatingContext
from agents.gates.gramian import Gramian

ITERATIONS = 24
"""Newton steps: enough to converge to rounding in thousands of random cases of 3 to 8 rows, with
nearly opposed rows and preferences of 1e-4 for all rows but one among them."""
ITERATIONS_IF_EQUAL = 16
"""Newton steps if the preferences are equal."""
STRIDE = 0.9
"""Share of the way to the boundary of the positive numbers that a step may take."""
LARGEST = 1e3
"""Largest weight of a unit row.  Opposed rows have no solution: their weights would grow without
bound.  For two rows with equal preferences it means a cosine of at least -1 + 1e-6."""


def bargain(
    cosine: Float[Tensor, "*batch M M"],
    preference: Float[Tensor, "*batch M"],
    iterations: int = ITERATIONS,
) -> Float[Tensor, "*batch M"]:
    """Returns the a > 0 with `a_i (cosine @ a)_i = preference_i`; computes in float64.

    It is the minimum of the strictly convex `a @ cosine @ a / 2 - sum_i p_i log a_i`.

    Args:
        cosine: of unit rows; a row that vanished gets the square root of its preference and
            does not affect the others.
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

    m is on the diagonal, c off it.  Only numbers that are known exactly are subtracted.
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
    """Solves for a and the slack y together: `a_i y_i = p_i` and `y = matrix @ a`.

    This is an interior-point method.  Without the slack it takes hundreds of iterations if the
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
    """Returns `da_i / dp_j` of `bargain`: `(cosine + diag(p / a^2))^-1 diag(1 / a)`.

    Args:
        cosine: among the M gradients.
        preference: p, the bargaining powers.
        a: the weights of gradients of length 1 that `bargain` found.
    """
    weight = a.double()
    system = steady(cosine) + torch.diag_embed(preference.double() / weight.square())
    return solve(system, torch.diag_embed(1.0 / weight)).to(cosine.dtype)


LEAST = 1e-4
"""Of all preferences, as in the authors' code."""


@dataclass(frozen=True)
class AuxiNashConfig:
    """Options of `auxinash`."""

    preference: tuple[float, ...] = ()
    """Bargaining power of each loss, main first; they sum to 1.  Empty: the same for all."""
    learn_every: int = 0
    """Let the main loss of every n-th trajectory move the preference; 0: never.  The paper: 25.
    For train.py; in other loops it is `agents.learning.auxinash.LearnedPreference` that learns."""
    learn_rate: float = 5e-3
    """Of the preference.  As in the paper, where it sums to the number of losses."""
    learn_terms: int = 3
    """Of the Neumann series, as in the paper; 0: what the last step alone did.  Each costs two
    backward passes."""

    def __post_init__(self) -> None:
        if self.learn_every < 0:
            raise ValueError(f"learn_every must be 0 (never) or more, not {self.learn_every}.")
        if not 0 < self.learn_rate < float("inf"):
            raise ValueError(f"learn_rate must be above 0 and finite, not {self.learn_rate}.")
        if self.learn_terms < 0:
            raise ValueError(f"learn_terms must be 0 or more, not {self.learn_terms}.")
        plain = AuxiNashConfig.learn_rate, AuxiNashConfig.learn_terms
        if self.learn_every == 0 and (self.learn_rate, self.learn_terms) != plain:
            raise ValueError(
                "learn_rate and learn_terms have no effect on a preference that is not learnt: "
                "add a positive learn_every, or drop them."
            )
        self.build()

    def build(self) -> "AuxiNash":
        """Builds the gate; `agents.learning.auxinash` learns its preference."""
        return AuxiNash(
            self.preference,
            learn_every=self.learn_every,
            learn_rate=self.learn_rate,
            learn_terms=self.learn_terms,
        )


class AuxiNash(Gate):
    """Follows the direction that maximises the product of gains, each to the power of p_i.

        d = sum_i a_i g_i,    a_i > 0,    a_i <g_i, d> = p_i

    `<g_i, d> > 0` for every row: no loss rises, to first order.  Scaling any gradient leaves d as
    it is; `|d| = 1`.  Equal preferences give the direction of `nash`, shorter by the square root
    of the number of rows.  Rows that vanish take no part: the preferences of the others are
    scaled to sum to 1.

    `preference` is a buffer.  Whoever learns p, as `agents.learning.auxinash` does, writes it in
    place, and finds in `sensitivity` how the weights depend on it.

    Departures from the paper: as in `nash`; its code scales p to sum to the number of losses,
    here as in the text to 1.
    """

    preference: Tensor

    def __init__(
        self,
        preference: Sequence[float] = (),
        *,
        learn_every: int = 0,
        learn_rate: float = AuxiNashConfig.learn_rate,
        learn_terms: int = AuxiNashConfig.learn_terms,
    ) -> None:
        """Takes the preference, and how it is to be learnt by whoever learns it.

        Args:
            preference: of each loss, main first; empty for equal ones.
            learn_every: trajectories between two steps of the preference; 0 for a fixed one.
            learn_rate: of the preference.
            learn_terms: of the series that approximates its gradient.
        """
        super().__init__()
        self.learn_every, self.learn_rate = learn_every, learn_rate
        self.learn_terms = learn_terms
        self.needs_network = learn_every > 0
        given = torch.tensor(list(preference), dtype=torch.float64)
        if len(preference) > 0 and not abs(sum(preference) - 1) < 1e-6:
            raise ValueError(f"preference must sum to 1, not to {sum(preference):g}.")
        if len(preference) > 0 and not min(preference) >= LEAST * (1 - 1e-9):
            raise ValueError(f"preference must be at least {LEAST:g}, not {min(preference):g}.")
        self.register_buffer("preference", given)

    def check(self, num_losses: int) -> None:
        """Refuses more or fewer losses than there are preferences."""
        if self.preference.numel() > 0 and self.preference.shape[-1] != num_losses:
            raise ValueError(
                f"preference must name {num_losses} numbers, one per loss, main first, not "
                f"{self.preference.shape[-1]}."
            )

    def check_context(self, context: GatingContext) -> None:
        """Refuses what a learnt preference cannot go with."""
        super().check_context(context)
        if self.learn_every == 0:
            return
        context.require_plain("a learnt preference", "one judgement of plain gradients")
        if context.compiled:
            raise ValueError(
                "auxinash.learn-every takes second derivatives, which a compiled torso does not "
                "have: do not compile."
            )

    def forward(
        self, gramian: Gramian, losses: Float[Tensor, "*batch L"] | None = None
    ) -> Float[Tensor, "*batch G M"]:
        """Solves for unit rows and divides by the lengths of the rows."""
        weight = bargain(gramian.cosine, self._power(gramian))
        return torch.where(gramian.norm > 0, weight / gramian.norm, 0.0)

    def sensitivity(
        self, gramian: Gramian, weights: Float[Tensor, "*batch G M"]
    ) -> Float[Tensor, "*batch G M M"]:
        """Returns `da_i / dp_j`, by which a gradient of the weights becomes one of p.

            da/dp = (G + diag(p / a^2))^-1 diag(1 / a),    G the Gram matrix

        0 in rows and columns of what has vanished.

        Args:
            gramian: of a judgement.
            weights: of the same judgement.
        """
        alive = gramian.norm > 0
        power = self._power(gramian)
        unit = torch.where(alive, weights * gramian.norm, power.sqrt())
        change = sensitivity(gramian.cosine, power, unit)
        both = alive.unsqueeze(-1) & alive.unsqueeze(-2)
        return torch.where(both, change / gramian.norm.unsqueeze(-1), 0.0)

    def _power(self, gramian: Gramian) -> Float[Tensor, "*batch G M"]:
        """Preferences of the rows that have not vanished, which sum to 1; 1 for the others."""
        norm = gramian.norm
        alive = norm > 0
        if self.preference.numel() == 0:
            preference = torch.ones_like(norm)
        else:
            preference = self.preference.to(norm).unsqueeze(-2).expand_as(norm)
        total = torch.where(alive, preference, 0.0).sum(-1, keepdim=True)
        return torch.where(alive, preference / total, 1.0)


@dataclass(frozen=True)
class NashConfig:
    """Options of `nash`: none."""

    def build(self) -> "Nash":
        """Builds the gate."""
        return Nash()


class Nash(Gate):
    """Follows the direction that maximises the product of all losses' gains.

        d = sum_i a_i g_i,    a_i > 0,    a_i <g_i, d> = 1

    `<g_i, d> > 0` for every row: no loss rises, to first order.  Neither the main gradient nor a
    large one takes precedence: scaling any gradient leaves d as it is, and `|d|^2` is the number
    of rows.  Rows that vanish take no part.

    Opposed rows have no solution: weights of unit rows are at most 1000 (all are shrunk together),
    which for two rows means a cosine of at least -1 + 1e-6.  d is then close to 0.

    Departures from the paper: solved to rounding, by Newton's method or for two losses by the
    closed form, instead of a sequence of convex approximations; no clipping here (the learner
    clips).
    """

    def forward(
        self, gramian: Gramian, losses: Float[Tensor, "*batch L"] | None = None
    ) -> Float[Tensor, "*batch G M"]:
        """Solves for unit rows and divides by the lengths of the rows."""
        weight = bargain(gramian.cosine, torch.ones_like(gramian.norm), ITERATIONS_IF_EQUAL)
        return torch.where(gramian.norm > 0, weight / gramian.norm, 0.0)

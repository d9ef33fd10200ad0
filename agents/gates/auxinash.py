"""AuxiNash: gradients bargain for the direction, each with a power of its own.

Shamsian, Navon, Glazer, Kawaguchi, Chechik, Fetaya: "Auxiliary Learning as an Asymmetric
Bargaining Game", https://arxiv.org/abs/2301.13501.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from agents.gates.bargaining import bargain, sensitivity
from agents.gates.base import Gate
from agents.gates.gramian import Gramian

LEAST = 1e-4
"""Of all preferences, as in the authors' code."""


@dataclass(frozen=True)
class AuxiNashConfig:
    """Options of `auxinash`."""

    preference: tuple[float, ...] = ()
    """Bargaining power of each loss, main first; they sum to 1.  Empty: the same for all."""
    learn_every: int = 0
    """Let the main loss of every n-th trajectory move the preference; 0: never.  The paper: 25.
    For train.py; in other loops it is `agents.hypergradient.LearnedPreference` that learns."""
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
        """Builds the gate; `agents.hypergradient` learns its preference."""
        return AuxiNash(self.preference, learnt=self.learn_every > 0)


class AuxiNash(Gate):
    """Follows the direction that maximises the product of gains, each to the power of p_i.

        d = sum_i a_i g_i,    a_i > 0,    a_i <g_i, d> = p_i

    `<g_i, d> > 0` for every row: no loss rises, to first order.  Scaling any gradient leaves d as
    it is; `|d| = 1`.  Equal preferences give the direction of `nash`, shorter by the square root
    of the number of rows.  Rows that vanish take no part: the preferences of the others are
    scaled to sum to 1.

    `preference` is a buffer.  Whoever learns p, as `agents.hypergradient` does, writes it in
    place, and finds in `sensitivity` how the weights depend on it.

    Departures from the paper: as in `nash`; its code scales p to sum to the number of losses,
    here as in the text to 1.
    """

    preference: Tensor

    def __init__(self, preference: Sequence[float] = (), *, learnt: bool = False) -> None:
        super().__init__()
        self.needs_network = learnt
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

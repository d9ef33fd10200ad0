"""What `projection` and `orthogonal` share: removing the part of an auxiliary along a reference.

Tran-Thien: "Censoring the auxiliary loss gradient", Algorithms 1 and 2,
https://github.com/vivien000/auxiliary-learning2.
"""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from agents.gates.base import Gate
from agents.gates.gramian import Gramian, magnitude
from agents.gates.memory import recall


def check_decay(decay: float) -> None:
    """Refuses a share of the past outside [0, 1)."""
    if not 0 <= decay < 1:
        raise ValueError(f"decay must be in [0, 1), not {decay}.")


class Removal(Gate):
    """Removes from each auxiliary gradient a part along the reference m.

        d = g + sum_k (h_k - r_k |h_k| / |m| m),    r_k = removed(cos(m, h_k))

    m is the main gradient g, or with `decay > 0` its moving average, a reference row:

        m <- decay m + (1 - decay) g

    The first gradient is the first average (no bias correction: only the direction of m
    matters).  A main gradient that is zero or not finite says nothing and leaves the average
    as it was.  While m is zero every auxiliary passes unchanged.
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
        """Says how much of the cosine between reference and auxiliary is taken away."""

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
        """Adds the shares of all auxiliaries to the main gradient."""
        shares = self.shares(gramian, torch.ones_like(gramian.norm))
        return self._row(0, gramian) + shares.sum(-2)

    def shares(
        self, gramian: Gramian, weights: Float[Tensor, "*batch G M"]
    ) -> Float[Tensor, "*batch G K M"]:
        """Gives each auxiliary its own row, and what is removed from it to the reference."""
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

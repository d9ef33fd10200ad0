"""Mean cosines between the gradients of all losses, kept on the device until they are drawn."""

import torch
from jaxtyping import Float
from torch import Tensor

from agents.gates.gramian import Gramian

LEAST = 3
"""Losses that make a matrix: the one cosine of a single auxiliary is a curve in the log."""


class MeanCosines:
    """The matrix of cosines among the main loss and all auxiliaries, averaged over judgements."""

    def __init__(self) -> None:
        self._sum: Float[Tensor, "L L"] | None = None
        self._count = 0

    def add(self, gramian: Gramian, num_losses: int) -> None:
        """Adds one judgement, if it is one of several auxiliaries; never waits for the device.

        Args:
            gramian: of the losses, and of a gate's references after them.
            num_losses: how many of its rows are losses.
        """
        if num_losses < LEAST:
            return
        cosines = whole(gramian)[:num_losses, :num_losses]
        self._sum = cosines if self._sum is None else self._sum + cosines
        self._count += 1

    def drain(self) -> Float[Tensor, "L L"] | None:
        """Returns the mean since the last time and starts again; none without a judgement."""
        if self._sum is None:
            return None
        mean = self._sum / self._count
        self._sum, self._count = None, 0
        return mean


def whole(gramian: Gramian) -> Float[Tensor, "M M"]:
    """Cosines over all columns, from those of the groups that were judged apart.

    A row that vanishes has 0 with every row, itself included.
    """
    norm = torch.linalg.vector_norm(gramian.norm, dim=-2)  # [M]
    # Relative to the whole row, norms stay in range however large or small gradients are.
    relative = torch.where(norm == 0, 0.0, gramian.norm / norm)  # [G, M]
    product = relative.unsqueeze(-1) * relative.unsqueeze(-2)  # [G, M, M]
    return (gramian.cosine * product).sum(-3).clamp(-1.0, 1.0)

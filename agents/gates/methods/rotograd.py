"""RotoGrad's weights: gradients of equal length, at the pace of the loss that lags behind.

Javaloy, Valera: "RotoGrad: Gradient Homogenization in Multitask Learning", ICLR 2022,
https://arxiv.org/abs/2103.02631.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from agents.gates.base import Gate, GatingContext, recall
from agents.gates.gramian import Gramian


@dataclass(frozen=True)
class RotoGradConfig:
    """Options of `rotograd`: of its weights, and of the rotations that come with them."""

    homogenise: bool = True
    """Whether gradients are made equally long; else they are only rotated."""
    burn_in: int = 20
    """Judgements after which the lengths that count as the first ones are taken anew."""
    pace: float = 0.1
    """Learning rate of the rotations at first, as a share of the network's.  A choice of this
    project: the paper asks for less than the network's."""
    decay: float = 0.99999
    """By which that share shrinks at every update.  As in the authors' toy example."""
    block: int = 64
    """Features that are rotated together, in blocks of so many; 0: all.  A choice of this
    project: the cost of an update grows with the square of it."""

    def __post_init__(self) -> None:
        if not 0 < self.pace <= 1:
            raise ValueError(
                f"pace must be above 0 and at most 1, the network's own, not {self.pace}."
            )
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay must be above 0 and at most 1, not {self.decay}.")
        if self.block < 0 or self.block == 1:
            raise ValueError(
                f"block must be 0 (all features) or at least 2, since a single number cannot be "
                f"rotated, not {self.block}."
            )
        self.build()

    def build(self) -> "RotoGrad":
        """Builds the gate; `agents.learning.rotations` makes the rotations."""
        return RotoGrad(self.homogenise, self.burn_in, self.pace, self.decay, self.block)


class RotoGrad(Gate):
    """Makes all gradients equally long, as long as a mean that favours who has moved least.

        d = C sum_k g_k / |g_k|,    C = sum_k alpha_k |g_k|
        alpha_k = r_k / sum_j r_j,    r_k = |g_k| / |g_k(0)|

    r_k tells how far a loss has converged, by the length of its gradient: the less it has, the
    more its length counts.  Rows that vanish take no part.  |g_k(0)| is the length at the first
    judgement at which it was not 0, and again at number `burn_in`, counted from 0.

    The method's rows are gradients over the *features* that all losses share, sample by sample,
    and its other half rotates the features of each loss: see `agents.learning.rotations`.  Without
    `homogenise` all weights are 1 and only the rotations are left.

    Departures from the paper: none in the formulas; its code has an epsilon of 1e-15.
    """

    needs_network = True

    initial: Tensor
    judged: Tensor

    def __init__(
        self,
        homogenise: bool = True,
        burn_in: int = 20,
        pace: float = RotoGradConfig.pace,
        decay: float = RotoGradConfig.decay,
        block: int = RotoGradConfig.block,
    ) -> None:
        """Takes the options of the weights, and keeps those of the rotations for the learner.

        Args:
            homogenise: whether gradients are made equally long.
            burn_in: judgements after which the first lengths are taken anew.
            pace: learning rate of the rotations at first, as a share of the network's.
            decay: by which that share shrinks at every update.
            block: features that are rotated together; 0 for all.
        """
        super().__init__()
        self.pace, self.decay, self.block = pace, decay, block
        if burn_in < 0:
            raise ValueError(f"burn_in must be 0 or more, not {burn_in}.")
        self.homogenise = homogenise
        self.burn_in = burn_in
        self.register_buffer("initial", torch.empty(0))
        self.register_buffer("judged", torch.zeros((), dtype=torch.int64))

    def check_context(self, context: GatingContext) -> None:
        """Refuses what gradients over features cannot go with."""
        super().check_context(context)
        context.require_plain("rotograd", "gradients over features")

    def forward(
        self, gramian: Gramian, losses: Float[Tensor, "*batch L"] | None = None
    ) -> Float[Tensor, "*batch G M"]:
        """Weighs by the lengths of the rows alone."""
        norm = gramian.norm
        if not self.homogenise:
            return torch.ones_like(norm)
        ratio = torch.where(norm > 0, norm / self._first(norm), 0.0)
        alpha = ratio / ratio.sum(-1, keepdim=True)
        common = (alpha * norm).sum(-1, keepdim=True)  # C
        return torch.where(norm > 0, common / norm, 0.0)

    def advance(self, gramian: Gramian, losses: Float[Tensor, "*batch L"] | None = None) -> None:
        """Remembers the first lengths."""
        first = self._first(gramian.norm)
        self.initial = recall(self.initial, gramian.norm)
        self.initial.copy_(first)
        self.judged.add_(1)

    def _first(self, norm: Float[Tensor, "*batch G L"]) -> Float[Tensor, "*batch G L"]:
        """The lengths that count as the first ones; 0 where there was none yet."""
        initial = recall(self.initial, norm)
        anew = (initial == 0) | (self.judged == self.burn_in)
        return torch.where(anew & (norm > 0), norm, initial)

"""A gate that knows its own uncertainty: it acts only where the sign of the cosine is significant.

No paper of its own: the weight of Du et al. (https://arxiv.org/abs/1812.02224), the unbiased
estimate of an inner product of means of Hoeffding ("A Class of Statistics with Asymptotically
Normal Distribution", 1948), the standard error of Tukey's jackknife as Arvesen has it for such
statistics ("Jackknifing U-Statistics", 1969).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from agents.gates.base import Gate
from agents.gates.gramian import Gramian


@dataclass(frozen=True)
class SignificantConfig:
    """Options of `significant`."""

    slices: int = 4
    """Of the data, whose gradients are compared; at least 3.  A judgement costs so many times the
    backward passes of `cosine`."""
    confidence: float = 0.9
    """Nominal, two-sided, of the sign: 0.9 asks for 1.64 standard errors."""
    unknown: float = 0.0
    """Weight of an auxiliary of which nothing is known: 1 adds it whole, 0 blocks it."""

    def __post_init__(self) -> None:
        self.build()

    def build(self) -> "Significant":
        """Builds the gate."""
        return Significant(self.slices, self.confidence, self.unknown)


class Significant(Gate):
    """Asks S slices of the data whether an auxiliary helps, hurts, or whether they cannot tell.

        U_k = mean over i != j of <g_i, h_kj>,   g_i and h_kj: of slice i and slice j
        d = g + sum_k w_k h_k,    w_k = max(0, cos(g, h_k))   if U_k >  z s_k
                                        0                     if U_k < -z s_k
                                        unknown               otherwise

    s_k is the jackknife's standard error, z the normal quantile of `confidence`.  <g, h_k> itself
    is no estimate of what it stands for: noise that g_i and h_ki have in common, since they come
    from the same data, adds to it.  Pairs of different slices do not share it.

    Where a gradient vanishes nothing is known.  Main-descent holds where every auxiliary is known,
    and wherever `unknown` is 0.
    """

    scale_free = True

    def __init__(self, slices: int = 4, confidence: float = 0.9, unknown: float = 0.0) -> None:
        super().__init__()
        if slices < 3:
            raise ValueError(f"slices must be at least 3, not {slices}.")
        if not 0 < confidence < 1:
            raise ValueError(f"confidence must be between 0 and 1, not {confidence}.")
        if not 0 <= unknown <= 1:
            raise ValueError(f"unknown must be from 0 to 1, not {unknown}.")
        self.slices = slices
        self.threshold = NormalDist().inv_cdf((1 + confidence) / 2)
        self.unknown = unknown

    def forward(
        self, gramian: Gramian, losses: Float[Tensor, "*batch L"] | None = None
    ) -> Float[Tensor, "*batch G M"]:
        """Weighs auxiliary k as `cosine` does, by 0, or by `unknown`."""
        helps, hurts = self.known(gramian)
        cosine = gramian.cosine[..., 0, 1:].clamp(min=0.0)
        weight = cosine.masked_fill(hurts, 0.0).masked_fill(~(helps | hurts), self.unknown)
        return F.pad(weight, (1, 0), value=1.0)

    def known(
        self, gramian: Gramian
    ) -> tuple[Bool[Tensor, "*batch G K"], Bool[Tensor, "*batch G K"]]:
        """Tells which auxiliaries help for sure, and which hurt."""
        estimate, error = off_diagonal_mean(self._products(gramian))
        bound = self.threshold * error
        return estimate > bound, -estimate > bound

    def notes(self, gramian: Gramian) -> Mapping[str, Float[Tensor, "*batch K"]]:
        """Returns in which share of the groups the sign was known."""
        helps, hurts = self.known(gramian)
        return {"known": (helps | hurts).to(gramian.norm.dtype).mean(-2)}

    def _products(self, gramian: Gramian) -> Float[Tensor, "*batch G K S S"]:
        """Gives <g_i, h_kj>, up to a positive factor for each k."""
        assert gramian.slices is not None, "judge asks for them"
        shape = (self.slices, gramian.norm.shape[-1])
        norm = gramian.slices.norm.unflatten(-1, shape)  # [*batch, G, S, L]
        total = norm.sum(-2, keepdim=True)
        relative = torch.where(total == 0, 0.0, norm / total).mT  # [*batch, G, L, S]
        cosine = gramian.slices.cosine.unflatten(-1, shape).unflatten(-3, shape)
        # [*batch, G, S, L, S, L]: of the first two only the main loss.
        cosine = cosine[..., 0, :, 1:].movedim(-1, -3)  # [*batch, G, K, S, S]
        products: Tensor = cosine * relative[..., :1, :, None] * relative[..., 1:, None, :]
        return products


def off_diagonal_mean(
    products: Float[Tensor, "*batch S S"],
) -> tuple[Float[Tensor, " *batch"], Float[Tensor, " *batch"]]:
    """Returns the mean of the entries off the diagonal, and the jackknife's standard error of it.

    The jackknife leaves out one slice at a time, its row and its column.
    """
    count = products.shape[-1]
    off = products - torch.diag_embed(products.diagonal(dim1=-2, dim2=-1))
    total = off.sum((-2, -1))
    without = total.unsqueeze(-1) - off.sum(-1) - off.sum(-2)  # [*batch, S]
    mean = total / (count * (count - 1))
    without = without / ((count - 1) * (count - 2))
    deviation = (without - mean.unsqueeze(-1)).square().sum(-1)
    return mean, (deviation * (count - 1) / count).sqrt()

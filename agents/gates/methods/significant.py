"""Significant: a cosine gate that acts only where slices of the data agree on the sign.

This project's combination of known parts: the weight of Du et al.
(https://arxiv.org/abs/1812.02224), the unbiased estimate of an inner product of means by Hoeffding
("A Class of Statistics with Asymptotically Normal Distribution", 1948), and the standard error of
Tukey's jackknife by Arvesen ("Jackknifing U-Statistics", 1969).
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
    """Slices of the environments whose gradients are compared; at least 3.  With a shared graph,
    the cost is this many times that of `cosine`."""
    confidence: float = 0.9
    """Of the sign; nominal, two-sided: 0.9 requires 1.64 standard errors."""
    unknown: float = 0.0
    """Weight of an auxiliary whose sign is unknown: 1 adds it whole, 0 blocks it."""

    def __post_init__(self) -> None:
        self.build()

    def build(self) -> "Significant":
        """Builds the gate."""
        return Significant(self.slices, self.confidence, self.unknown)


class Significant(Gate):
    """Weighs an auxiliary by what S slices of the data say: it helps, it hurts, or unknown.

        U_k = mean over i != j of <g_i, h_kj>,   g_i and h_kj: of slice i and slice j
        d = g + sum_k w_k h_k,    w_k = max(0, cos(g, h_k))   if U_k >  z s_k
                                        0                     if U_k < -z s_k
                                        unknown               otherwise

    s_k is the jackknife's standard error, z the normal quantile of `confidence`.  <g, h_k> itself
    is a biased estimate: g_i and h_ki come from the same data and share noise.  Pairs of different
    slices do not.

    Where a gradient vanishes, the sign is unknown.  Main-descent holds where every sign is known,
    and always with `unknown` 0.

    Args:
        slices: S, at least 3.
        confidence: of the sign; nominal, two-sided.
        unknown: weight of an auxiliary whose sign is unknown, from 0 to 1.
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
        """Weighs auxiliary k by its cosine, by 0, or by `unknown`."""
        helps, hurts = self.known(gramian)
        cosine = gramian.cosine[..., 0, 1:].clamp(min=0.0)
        weight = cosine.masked_fill(hurts, 0.0).masked_fill(~(helps | hurts), self.unknown)
        return F.pad(weight, (1, 0), value=1.0)

    def known(
        self, gramian: Gramian
    ) -> tuple[Bool[Tensor, "*batch G K"], Bool[Tensor, "*batch G K"]]:
        """Returns which auxiliaries help significantly, and which hurt significantly."""
        estimate, error = off_diagonal_mean(self._products(gramian))
        bound = self.threshold * error
        return estimate > bound, -estimate > bound

    def notes(self, gramian: Gramian) -> Mapping[str, Float[Tensor, "*batch K"]]:
        """Returns the share of the groups in which the sign was known."""
        helps, hurts = self.known(gramian)
        return {"known": (helps | hurts).to(gramian.norm.dtype).mean(-2)}

    def _products(self, gramian: Gramian) -> Float[Tensor, "*batch G K S S"]:
        """Returns <g_i, h_kj>, up to a positive factor for each k."""
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
    """Returns the mean of the off-diagonal entries and its jackknife standard error.

    The jackknife leaves out one slice at a time: its row and its column.
    """
    count = products.shape[-1]
    off = products - torch.diag_embed(products.diagonal(dim1=-2, dim2=-1))
    total = off.sum((-2, -1))
    without = total.unsqueeze(-1) - off.sum(-1) - off.sum(-2)  # [*batch, S]
    mean = total / (count * (count - 1))
    without = without / ((count - 1) * (count - 2))
    deviation = (without - mean.unsqueeze(-1)).square().sum(-1)
    return mean, (deviation * (count - 1) / count).sqrt()

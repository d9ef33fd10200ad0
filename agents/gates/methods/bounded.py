"""Bounded: what does not oppose an average of main gradients, up to a multiple of its length.

This project's combination of known parts: the projection on an average by Tran-Thien ("Censoring
the auxiliary loss gradient", Algorithm 2, https://github.com/vivien000/auxiliary-learning2), and a
limit on the length of the sum of all auxiliaries.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from agents.gates.algebra import Removal, check_decay, quadratic
from agents.gates.gramian import Gramian


@dataclass(frozen=True)
class BoundedConfig:
    """Options of `bounded`."""

    kappa: float = 0.5
    """Longest auxiliary part, in lengths of the average: small values protect, large ones help."""
    decay: float = 0.9
    """Share of the past in the moving average of the main gradient; 0 uses the current gradient."""

    def __post_init__(self) -> None:
        self.build()

    def build(self) -> "Bounded":
        """Builds the gate."""
        return Bounded(self.kappa, self.decay)


class Bounded(Removal):
    """Adds what of the auxiliaries does not oppose m, no longer than kappa |m|.

        v = sum_k (h_k - min(0, <m, h_k>) / |m|^2 m)
        d = g + min(1, kappa |m| / |v|) v

    m is the main gradient g, or with `decay > 0` its moving average
    `m <- decay m + (1 - decay) g`.  Noise in g averages out of m, so |m| measures how much of g
    is signal, and an auxiliary may not be longer than kappa times that.

    With `decay = 0`, `<g, d> >= |g|^2` and `|d|^2 <= (1 + kappa^2) |g|^2 + 2 <g, d - g>`: on a
    loss with L-Lipschitz gradient a step of `1 / (L (1 + kappa^2))` along -d lowers the loss by at
    least `|g|^2 / (2 L (1 + kappa^2))`, which is 1 / (1 + kappa^2) of what a step of 1 / L along
    -g guarantees.  With `decay > 0`, `<g, d> >= |g|^2 - kappa |m| |g| s`, where s is the sine of
    the angle between g and m, or 1 where the angle is obtuse.

    Where m vanishes every auxiliary is dropped.  With `kappa` infinite it is `projection`, except
    for that.

    Args:
        kappa: longest auxiliary part in lengths of m, above 0.
        decay: share of the past in the moving average, in [0, 1).
    """

    def __init__(self, kappa: float = 0.5, decay: float = 0.9) -> None:
        if not kappa > 0:
            raise ValueError(f"kappa must be above 0, not {kappa}.")
        check_decay(decay)
        super().__init__(decay)
        self.kappa = kappa

    def removed(self, cosine: Float[Tensor, "*batch G K"]) -> Float[Tensor, "*batch G K"]:
        """Removes negative cosines only."""
        return cosine.clamp(max=0.0)

    def shares(
        self, gramian: Gramian, weights: Float[Tensor, "*batch G M"]
    ) -> Float[Tensor, "*batch G K M"]:
        """Returns each auxiliary's row less its part against the reference, all shortened alike."""
        num_losses = gramian.norm.shape[-1] - self.num_references
        reference = num_losses if self.num_references > 0 else 0
        lengths = gramian.norm[..., 1:num_losses]
        size = gramian.norm[..., reference, None]
        longest = F.pad(lengths, (1, 0)).amax(-1, keepdim=True)  # also of none
        # In units of the longest auxiliary and along rows of length 1, so that all is in range.
        relative = torch.where(longest == 0, 0.0, lengths / longest)  # [*batch, G, K]
        removed = self.removed(gramian.cosine[..., reference, 1:num_losses])
        against = -(removed * relative).unsqueeze(-1) * self._row(reference, gramian)
        total = against.sum(-2) + F.pad(relative, (1, self.num_references))
        # A shorter rest than this cannot be told from rounding.
        least = torch.finfo(total.dtype).eps ** 0.5
        length = quadratic(gramian.cosine, total).sqrt().unsqueeze(-1).clamp(min=least)
        nothing = (size == 0) | (longest == 0)
        allowed = (self.kappa / length).clamp(max=torch.finfo(length.dtype).max)
        kept = torch.where(nothing, 0.0, (allowed * (size / longest)).clamp(max=1.0))
        # kept / size, which may overflow where kept is 1.
        along = torch.where(nothing, 0.0, torch.minimum(longest / size, allowed))
        along = along.clamp(max=torch.finfo(along.dtype).max)
        own = super(Removal, self).shares(gramian, kept.expand_as(weights))
        return own + along.unsqueeze(-1) * against

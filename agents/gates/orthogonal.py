"""Orthogonal gate.

Zhang et al. 2018, as tested in Tran-Thien: "Censoring the auxiliary loss gradient",
Appendix D.3, https://github.com/vivien000/auxiliary-learning2.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from agents.gates.removal import Removal, check_decay


@dataclass(frozen=True)
class OrthogonalConfig:
    """Options of `orthogonal`."""

    decay: float = 0.0
    """Share of the past in the moving average of the main gradient to be orthogonal to; 0 takes
    the current gradient."""

    def __post_init__(self) -> None:
        check_decay(self.decay)

    def build(self) -> "Orthogonal":
        """Builds the gate."""
        return Orthogonal(self.decay)


class Orthogonal(Removal):
    """Keeps of each auxiliary gradient only what is orthogonal to the main gradient.

        d = g + sum_k (h_k - <m, h_k> / |m|^2 m)

    m is g itself, or with `decay > 0` its moving average `m <- decay m + (1 - decay) g`.
    With `decay = 0`, `<g, d> = |g|^2` exactly: auxiliaries neither help nor hurt the main loss
    to first order.  Where m vanishes every auxiliary passes unchanged.

    Departures: several auxiliaries are each made orthogonal to m alone, then added; the
    moving average is offered as for `projection`.
    """

    def removed(self, cosine: Float[Tensor, "*batch G K"]) -> Float[Tensor, "*batch G K"]:
        """Removes every cosine, helpful ones too."""
        return cosine

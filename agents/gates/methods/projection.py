"""Gates that remove a part of the auxiliary gradient along the main one, or along its average.

`projection`: Tran-Thien: "Censoring the auxiliary loss gradient", Algorithm 1 (`decay = 0`) and
Algorithm 2 (`decay > 0`), https://github.com/vivien000/auxiliary-learning2.
`orthogonal`: Zhang et al. 2018, as tested in Appendix D.3 of the same report.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from agents.gates.algebra import Removal, check_decay


@dataclass(frozen=True)
class OrthogonalConfig:
    """Options of `orthogonal`."""

    decay: float = 0.0
    """Share of the past in the moving average of the main gradient; 0 uses the current gradient."""

    def __post_init__(self) -> None:
        check_decay(self.decay)

    def build(self) -> "Orthogonal":
        """Builds the gate."""
        return Orthogonal(self.decay)


class Orthogonal(Removal):
    """Keeps the part of each auxiliary gradient that is orthogonal to the main gradient.

        d = g + sum_k (h_k - <m, h_k> / |m|^2 m)

    m is g itself, or with `decay > 0` its moving average `m <- decay m + (1 - decay) g`.
    With `decay = 0`, `<g, d> = |g|^2` exactly: auxiliaries neither help nor hurt the main loss
    to first order.  Where m vanishes every auxiliary passes unchanged.

    Departures: each of several auxiliaries is made orthogonal to m alone, and the results are
    added; the moving average is offered as for `projection`.
    """

    def removed(self, cosine: Float[Tensor, "*batch G K"]) -> Float[Tensor, "*batch G K"]:
        """Removes every cosine, helpful ones too."""
        return cosine


@dataclass(frozen=True)
class ProjectionConfig:
    """Options of `projection`."""

    decay: float = 0.0
    """Share of the past in the moving average of the main gradient; 0 uses the current gradient.
    Tran-Thien's alpha is 1 - decay; he recommends 0.99."""

    def __post_init__(self) -> None:
        check_decay(self.decay)

    def build(self) -> "Projection":
        """Builds the gate."""
        return Projection(self.decay)


class Projection(Removal):
    """Removes from each auxiliary gradient what points against the main gradient.

        d = g + sum_k (h_k - min(0, <m, h_k>) / |m|^2 m)

    m is g itself, or with `decay > 0` its moving average `m <- decay m + (1 - decay) g`.
    Main-descent, `<g, d> >= |g|^2`, holds for `decay = 0` only: an average is not the current
    gradient.  Where m vanishes every auxiliary passes unchanged.

    Departures from the paper: each of several auxiliaries is projected against m alone, and the
    results are added; line 10 of the printed Algorithm 2 has its sign reversed, and this follows
    the author's code; the average starts at the first gradient, as in part of that code, and not
    at 0, so the first gradient weighs more in early averages.
    """

    def removed(self, cosine: Float[Tensor, "*batch G K"]) -> Float[Tensor, "*batch G K"]:
        """Removes negative cosines only."""
        return cosine.clamp(max=0.0)

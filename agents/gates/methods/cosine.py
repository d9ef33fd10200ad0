"""The cosine gates of Du et al.: weighted by the cosine, or open and closed by its sign.

Du, Czarnecki, Jayakumar, Farajtabar, Pascanu, Lakshminarayanan: "Adapting Auxiliary
Losses Using Gradient Similarity", Propositions 1 and 2 (weighted) and 3 (unweighted),
https://arxiv.org/abs/1812.02224.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from agents.gates.base import Gate
from agents.gates.gramian import Gramian


@dataclass(frozen=True)
class CosineUnweightedConfig:
    """Options of `cosine_unweighted`: none."""

    def build(self) -> "CosineUnweighted":
        """Builds the gate."""
        return CosineUnweighted()


class CosineUnweighted(Gate):
    """Adds each auxiliary gradient whole where its cosine is positive, and drops it elsewhere.

        d = g + sum_k [cos(g, h_k) > 0] h_k

    Main-descent holds: `<g, d> >= |g|^2`, since no auxiliary with `<g, h_k> < 0` enters.
    Where the main gradient vanishes, every cosine is 0 and every auxiliary is dropped.

    Departures from the paper: its `(sign(cos) + 1) / 2` gives half an auxiliary at a cosine
    of exactly 0, we drop it; each of several auxiliaries is compared with the main gradient
    alone and the results are added; the auxiliary's coefficient is already in its loss.
    """

    scale_free = True

    def forward(
        self, gramian: Gramian, losses: Float[Tensor, "*batch L"] | None = None
    ) -> Float[Tensor, "*batch G M"]:
        """Weighs auxiliary k by 1 if `cos(g, h_k) > 0`, else by 0."""
        passes = gramian.cosine[..., 0, 1:] > 0
        return F.pad(passes.to(gramian.norm.dtype), (1, 0), value=1.0)


@dataclass(frozen=True)
class CosineConfig:
    """Options of `cosine`: none."""

    def build(self) -> "Cosine":
        """Builds the gate."""
        return Cosine()


class Cosine(Gate):
    """Weighs each auxiliary gradient by its cosine with the main gradient, never below 0.

        d = g + sum_k max(0, cos(g, h_k)) h_k

    Main-descent holds: `<g, d> >= |g|^2`, since no auxiliary with `<g, h_k> < 0` enters.
    Where the main gradient vanishes, every cosine is 0 and every auxiliary is dropped.

    Departures from the paper: each of several auxiliaries is weighed against the main gradient
    alone and the results are added (the paper has one); the auxiliary's coefficient, 1 in the
    paper, is already in its loss.
    """

    scale_free = True

    def forward(
        self, gramian: Gramian, losses: Float[Tensor, "*batch L"] | None = None
    ) -> Float[Tensor, "*batch G M"]:
        """Weighs auxiliary k by `max(0, cos(g, h_k))`."""
        return F.pad(gramian.cosine[..., 0, 1:].clamp(min=0.0), (1, 0), value=1.0)

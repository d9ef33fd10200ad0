"""OL-AUX: auxiliary weights learnt online.

Lin, Baweja, Kantor, Held: "Adaptive Auxiliary Task Weighting for Reinforcement Learning",
NeurIPS 2019.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from agents.gates.base import Gate, recall
from agents.gates.gramian import Gramian

Logarithm = Literal["none", "auxiliaries", "all"]


def check_log(log: str) -> None:
    """Refuses an unknown set of losses.

    Raises:
        ValueError: it is not one of `Logarithm`.
    """
    if log not in get_args(Logarithm):
        raise ValueError(f"log must be one of {', '.join(get_args(Logarithm))}, not {log}.")


@dataclass(frozen=True)
class OLAuxConfig:
    """Options of `ol_aux`."""

    interval: int = 5
    """Judgements between two updates of the weights; the paper's N."""
    learning_rate: float = 0.005
    """Of the weights; the paper's beta times its step size (5 x 0.001 in the authors' code, which
    takes logarithms)."""
    log: Logarithm = "none"
    """Which losses to replace by their logarithm, so that large losses do not count for more (the
    paper: all).  `all` is only for main losses that are never below 0, unlike those of an
    actor-critic."""
    offset: float = 0.02
    """Added to a loss before its logarithm is taken, as in the authors' code."""

    def __post_init__(self) -> None:
        self.build()

    def build(self) -> "OLAux":
        """Builds the gate."""
        return OLAux(self.interval, self.learning_rate, self.log, self.offset)


class OLAux(Gate):
    """Weighs each auxiliary by how much its gradient has recently helped the main loss.

        d = g + sum_k w_k h_k,    w_k = 1 at first
        every `interval` judgements:
            w_k <- max(0, w_k + learning_rate sum_{last interval} <g, h_k>)

    A judgement uses the weights learnt before it.  With logarithms, every g and h_k is divided by
    its loss plus `offset`, in d too; where a loss is negative or not finite, by 1.  An inner
    product counts as 0 if a gradient vanishes or the product is out of range.

    The inner products are not divided by any length: without logarithms the scale of the losses
    decides how fast the weights move.  No guarantee for the main loss: the weights describe the
    past.

    Departures from the paper: gradients over all shared parameters; the last `interval` inner
    products are summed, where the authors' code takes the mean of gradients over the last 4.

    Args:
        interval: judgements between two updates of the weights.
        learning_rate: of the weights.
        log: which losses are replaced by their logarithm.
        offset: added to a loss before its logarithm.
    """

    weight: Tensor
    total: Tensor
    count: Int[Tensor, ""]

    def __init__(
        self,
        interval: int = 5,
        learning_rate: float = 0.005,
        log: Logarithm = "none",
        offset: float = 0.02,
    ) -> None:
        super().__init__()
        if interval < 1:
            raise ValueError(f"interval must be at least 1, not {interval}.")
        if not 0 <= learning_rate < float("inf"):
            raise ValueError(f"learning_rate must be at least 0 and finite, not {learning_rate}.")
        check_log(log)
        if not 0 < offset < float("inf"):
            raise ValueError(f"offset must be above 0 and finite, not {offset}.")
        self.interval = interval
        self.learning_rate = learning_rate
        self.log = log
        self.offset = offset
        self.needs_losses = log != "none"
        self.register_buffer("weight", torch.empty(0))
        self.register_buffer("total", torch.empty(0))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(
        self, gramian: Gramian, losses: Float[Tensor, "*batch L"] | None = None
    ) -> Float[Tensor, "*batch G M"]:
        """Returns the weights learnt so far."""
        self.weight = recall(self.weight, gramian.norm, fill=1.0)
        return self.weight * self._scale(gramian, losses)

    def advance(self, gramian: Gramian, losses: Float[Tensor, "*batch L"] | None = None) -> None:
        """Sums the inner products with the main gradient; moves the weights when they are due."""
        self.total = recall(self.total, gramian.norm)
        length = gramian.norm * self._scale(gramian, losses)
        product = gramian.cosine[..., 0, :] * length[..., :1] * length
        self.total.add_(torch.where(product.isfinite(), product, 0.0))
        self.count.add_(1)
        due = self.count % self.interval == 0
        moved = (self.weight + self.learning_rate * self.total).clamp(min=0.0)
        moved[..., 0] = 1.0
        self.weight.copy_(torch.where(due, moved, self.weight))
        self.total.copy_(torch.where(due, 0.0, self.total))

    def _scale(
        self, gramian: Gramian, losses: Float[Tensor, "*batch L"] | None
    ) -> Float[Tensor, "*batch #G L"]:
        """Returns the factor by which the logarithm multiplies each gradient."""
        if self.log == "none":
            return torch.ones_like(gramian.norm)
        assert losses is not None
        losses = losses.to(gramian.norm.dtype)
        sound = losses.isfinite() & (losses >= 0)
        if self.log == "auxiliaries":
            sound = sound & (torch.arange(losses.shape[-1], device=losses.device) > 0)
        return torch.where(sound, 1.0 / (losses + self.offset), 1.0).unsqueeze(-2)

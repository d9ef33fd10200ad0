"""GradNorm: weights that keep the gradients' lengths in step.

Chen, Badrinarayanan, Lee, Rabinovich: "GradNorm: Gradient Normalization for Adaptive Loss
Balancing in Deep Multitask Networks", Algorithm 1, https://arxiv.org/abs/1711.02257.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from agents.gates.base import Gate, recall
from agents.gates.gramian import Gramian


@dataclass(frozen=True)
class GradNormConfig:
    """Options of `gradnorm`."""

    alpha: float = 1.5
    """How much a lagging loss is favoured (as in LibMTL); 0 makes all weighted gradients equally
    long."""
    learning_rate: float = 0.025
    """Of the logarithms of the weights, per judgement; this project's choice."""
    main_ratio: bool = False
    """Count the main loss's progress, too.  Only for main losses that are never below 0, unlike
    those of an actor-critic."""

    def __post_init__(self) -> None:
        self.build()

    def build(self) -> "GradNorm":
        """Builds the gate."""
        return GradNorm(self.alpha, self.learning_rate, self.main_ratio)


class GradNorm(Gate):
    """Weighs gradients so that the length of each fits the progress of its loss.

        d = sum_i w_i g_i,    w = L softmax(v),    v = 0 at first
        v <- v - learning_rate dF/dv,    F = sum_i |w_i |g_i| / m - r_i^alpha|
        m = mean_i w_i |g_i|  (held fixed),    r_i = q_i / mean_j q_j,    q_i = L_i(t) / L_i(0)

    A judgement uses the weights learnt before it, so the first is the sum.  The weights sum to L;
    none falls to 0, so there is no guarantee for any loss.  An auxiliary whose loss has fallen
    further than the others gets a smaller weight.

    q_i is 1, no progress, where a ratio makes no sense: for the main loss without `main_ratio`,
    and for a loss that is negative or not finite, or has not been positive yet.  L_i(0) is its
    first positive value.  Rows that vanish neither move the weights nor count in means.

    Departures from the paper: F is divided by m, so that scaling all gradients changes nothing
    (the paper leaves that to Adam); lengths over all shared parameters, not the last shared
    layer's alone; coefficients are part of the losses, so they and their schedules enter L_i.

    Args:
        alpha: how much a lagging loss is favoured, at least 0.
        learning_rate: of v, per judgement.
        main_ratio: whether the main loss's progress counts, too.
    """

    logit: Tensor
    initial: Tensor

    def __init__(
        self, alpha: float = 1.5, learning_rate: float = 0.025, main_ratio: bool = False
    ) -> None:
        super().__init__()
        if not 0 <= alpha < float("inf"):
            raise ValueError(f"alpha must be at least 0 and finite, not {alpha}.")
        if not 0 < learning_rate < float("inf"):
            raise ValueError(f"learning_rate must be above 0 and finite, not {learning_rate}.")
        self.alpha = alpha
        self.learning_rate = learning_rate
        self.main_ratio = main_ratio
        self.needs_losses = alpha > 0
        self.register_buffer("logit", torch.empty(0))
        self.register_buffer("initial", torch.empty(0))

    def forward(
        self, gramian: Gramian, losses: Float[Tensor, "*batch L"] | None = None
    ) -> Float[Tensor, "*batch G M"]:
        """Returns the weights learnt so far."""
        self.logit = recall(self.logit, gramian.norm)
        return gramian.norm.shape[-1] * self.logit.softmax(-1)

    def advance(self, gramian: Gramian, losses: Float[Tensor, "*batch L"] | None = None) -> None:
        """Takes a step of gradient descent on F."""
        weights = self(gramian)
        alive = gramian.norm > 0
        # Relative to the largest, so that their mean stays in range.
        largest = gramian.norm.amax(-1, keepdim=True)
        length = torch.where(alive, weights * (gramian.norm / largest), 0.0)
        length = _ratio(length, _mean(length, alive))  # w_i |g_i| / m
        target = self._target(alive, losses)
        pull = torch.where(alive, torch.sign(length - target), 0.0) * length
        slope = pull - weights / weights.shape[-1] * pull.sum(-1, keepdim=True)
        self.logit.sub_(self.learning_rate * slope)

    def _target(
        self, alive: Tensor, losses: Float[Tensor, "*batch L"] | None
    ) -> Float[Tensor, "*batch G L"] | float:
        """Returns `r^alpha` and remembers each loss's first positive value."""
        if self.alpha == 0:
            return 1.0
        assert losses is not None
        losses = losses.to(self.logit.dtype)
        self.initial = recall(self.initial, losses)
        sound = losses.isfinite() & (losses >= 0)
        first = (self.initial == 0) & sound
        self.initial.copy_(torch.where(first, losses, self.initial))
        ratio = losses / self.initial
        sound = sound & ratio.isfinite()
        if not self.main_ratio:
            sound = sound & (torch.arange(losses.shape[-1], device=losses.device) > 0)
        progress = torch.where(sound, ratio, 1.0).unsqueeze(-2).expand(alive.shape)
        return _ratio(progress, _mean(progress, alive)) ** self.alpha


def _mean(value: Float[Tensor, "*batch L"], counts: Tensor) -> Float[Tensor, "*batch 1"]:
    total = torch.where(counts, value, 0.0).sum(-1, keepdim=True)
    return total / counts.sum(-1, keepdim=True).clamp(min=1)


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    return torch.where(denominator == 0, 0.0, numerator / denominator)

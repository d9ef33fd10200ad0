"""PCGrad and GradVac, which moves conflicting gradients to a target similarity instead of zero.

PCGrad: Yu, Kumar, Gupta, Levine, Hausman, Finn: "Gradient Surgery for Multi-Task Learning",
Algorithm 1, https://arxiv.org/abs/2001.06782.
GradVac: Wang, Tsvetkov, Firat, Cao: "Gradient Vaccine: Investigating and Improving Multi-task
Optimization in Massively Multilingual Models", https://arxiv.org/abs/2010.05874.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from agents.gates.algebra import Order, Orders, check_decay, in_own_lengths
from agents.gates.base import Gate, recall
from agents.gates.gramian import Gramian


@dataclass(frozen=True)
class PCGradConfig:
    """Options of `pcgrad`."""

    order: Order = "random"
    """Order in which each row visits the others: `random`, drawn anew at every judgement as in the
    paper, or `fixed`, main first.  With two losses there is only one."""
    seed: int = 0
    """Of the random orders."""

    def __post_init__(self) -> None:
        self.build()

    def build(self) -> "PCGrad":
        """Builds the gate."""
        return PCGrad(self.order, self.seed)


class PCGrad(Gate):
    """Removes from every gradient what opposes another one, and adds up the rest.

        for every row i:   p_i = g_i
            for every other row j, in random order:
                p_i <- p_i - min(0, <p_i, g_j>) / |g_j|^2 g_j
        d = sum_i p_i

    The main gradient gives way to the auxiliaries as they do to it.  With two losses
    `<g_i, d> >= 0` for both; with more there is no guarantee for any.  A row that vanishes is not
    changed and does not affect another.

    Departures from the paper: one judgement uses one order for all groups and all entries of a
    batch.
    """

    def __init__(self, order: Order = "random", seed: int = 0) -> None:
        super().__init__()
        self.orders = Orders(order, seed)

    def forward(
        self, gramian: Gramian, losses: Float[Tensor, "*batch L"] | None = None
    ) -> Float[Tensor, "*batch G M"]:
        """Projects unit rows, all at once, and restores their lengths."""
        cosine = gramian.cosine
        num_rows = cosine.shape[-1]
        identity = torch.eye(num_rows, dtype=cosine.dtype, device=cosine.device)
        # Row i: by how much of each unit row p_i differs from g_i; and its products with them.
        change, slope = torch.zeros_like(cosine), cosine
        for other in self.orders(num_rows, cosine.device).unbind(-1):
            visited = identity[other]
            opposing = (slope * visited).sum(-1, keepdim=True).clamp(max=0.0)
            change = change - opposing * visited
            slope = slope - opposing * cosine[..., other, :]
        return 1.0 + in_own_lengths(change, gramian.norm)

    def advance(self, gramian: Gramian, losses: Float[Tensor, "*batch L"] | None = None) -> None:
        """Moves on to the next order."""
        self.orders.advance()


CLOSEST = 1 - 1e-6
"""Largest target cosine: turning a gradient fully onto another takes an infinite weight."""


@dataclass(frozen=True)
class GradVacConfig:
    """Options of `gradvac`."""

    decay: float = 0.5
    """Share of the past in the moving averages of the cosines: 1 - beta, with LibMTL's beta."""
    order: Order = "random"
    """Order in which each row visits the others: `random`, drawn anew at every judgement as in the
    paper, or `fixed`, main first.  With two losses there is only one."""
    seed: int = 0
    """Of the random orders."""

    def __post_init__(self) -> None:
        self.build()

    def build(self) -> "GradVac":
        """Builds the gate."""
        return GradVac(self.decay, self.order, self.seed)


class GradVac(Gate):
    """Turns every gradient towards the others up to their usual cosine, and adds them up.

        for every row i:   p_i = g_i
            for every other row j, in random order, with c = cos(p_i, g_j), t = target_ij:
                if c < t:   p_i <- p_i + |p_i| / |g_j| (t s(c) - c s(t)) / s(t) g_j
                target_ij <- decay t + (1 - decay) c          s(x) = sqrt(1 - x^2)
        d = sum_i p_i

    Targets start at 0: the first judgement is PCGrad's.  A row that vanishes is not changed, does
    not affect another, and leaves its targets unchanged.  No guarantee for any loss.

    Departures from the paper: one judgement uses one order for all groups and all entries of a
    batch; targets above 1 - 1e-6 count as 1 - 1e-6.

    Args:
        decay: share of the past in the targets.
        order: in which each row visits the others, `random` or `fixed`.
        seed: of the random orders.
    """

    target: Tensor
    _met: Tensor
    """The cosines of the current judgement, kept from `forward` to `advance`."""

    def __init__(self, decay: float = 0.5, order: Order = "random", seed: int = 0) -> None:
        super().__init__()
        check_decay(decay)
        self.decay = decay
        self.orders = Orders(order, seed)
        self.register_buffer("target", torch.empty(0))

    def forward(
        self, gramian: Gramian, losses: Float[Tensor, "*batch L"] | None = None
    ) -> Float[Tensor, "*batch G M"]:
        """Turns unit rows, all at once, and restores their lengths."""
        change, self._met = self._turn(gramian)
        return 1.0 + in_own_lengths(change, gramian.norm)

    def advance(self, gramian: Gramian, losses: Float[Tensor, "*batch L"] | None = None) -> None:
        """Moves the targets towards the cosines just measured, and moves on to the next order."""
        self.target.copy_(torch.lerp(self.target, self._met, 1.0 - self.decay))
        self.orders.advance()

    def _turn(self, gramian: Gramian) -> tuple[Tensor, Tensor]:
        """Returns p_i - g_i in unit rows, and all cosines measured on the way."""
        cosine = gramian.cosine
        self.target = recall(self.target, cosine)
        num_rows = cosine.shape[-1]
        identity = torch.eye(num_rows, dtype=cosine.dtype, device=cosine.device)
        alive = gramian.norm > 0
        change, met = torch.zeros_like(cosine), self.target
        slope = cosine  # <p_i, g_j / |g_j|>
        for other in self.orders(num_rows, cosine.device).unbind(-1):
            visited = identity[other]
            length = ((identity + change) * slope).sum(-1).clamp(min=0.0).sqrt()  # |p_i|
            counts = alive & alive[..., other] & (length > 0)
            product = (slope * visited).sum(-1)
            current = torch.where(counts, product / length, 0.0).clamp(-1.0, 1.0)
            target = (self.target * visited).sum(-1).clamp(max=CLOSEST)
            sine, target_sine = (torch.sqrt(1.0 - c.square()) for c in (current, target))
            needed = length * (target * sine - current * target_sine) / target_sine
            added = torch.where(counts & (current < target), needed, 0.0).unsqueeze(-1)
            change = change + added * visited
            slope = slope + added * cosine[..., other, :]
            seen = visited * counts.unsqueeze(-1).to(visited.dtype)
            met = torch.lerp(met, current.unsqueeze(-1).expand_as(met), seen)
        return change, met

"""Values at several discounts, as auxiliary tasks.

Fedus, Gelada, Bengio, Bellemare, Larochelle 2019, "Hyperbolic Discounting and Learning
over Multiple Horizons" (arXiv 1902.06865): n heads, each affine from the shared features,
learn the values of n discounts; their losses are averaged.  The paper's agent is
Rainbow, which learns action values; here, with an actor-critic, they are state values.
"""

from dataclasses import dataclass
from math import exp, log

import torch
from jaxtyping import Float
from torch import Tensor, nn

from agents.heads.base import AuxiliaryHead, HeadContext, HeadLoss, Targets, constant
from agents.networks.actor_critic import ActorCritic
from agents.networks.torsos import orthogonal
from agents.statistics import explained_variances
from agents.trajectory import AgentOutput, Trajectory
from gridworld.options import at_least, require


def hyperbolic_discounts(longest: float, count: int, exponent: float) -> tuple[float, ...]:
    """Returns gamma_i = (1 - b^i)^k for i = 1 ... n, with b such that gamma_n is `longest`.

    The paper's appendix C.

    Args:
        longest: gamma_n.
        count: n.
        exponent: k of the hyperbola 1 / (1 + k t).
    """
    base = exp(log(1 - longest ** (1 / exponent)) / count)
    return tuple(round((1 - base**i) ** exponent, 6) for i in range(1, count + 1))


@dataclass(frozen=True)
class MultiHorizonConfig:
    """Predicts values at several discounts (Fedus et al. 2019)."""

    discounts: tuple[float, ...] = hyperbolic_discounts(0.99, 10, 0.01)
    """Discounts per agent step (default: the paper's ten, hyperbolic, exponent 0.01, up to
    0.99)."""
    trace: float = 1.0
    """Lambda of the targets: 1 = n-step returns, 0 = one-step differences."""
    coefficient: float = 0.5
    """Weight of the loss (that of A2C's own value)."""

    def __post_init__(self) -> None:
        different = len(set(self.discounts)) == len(self.discounts)
        proper = bool(self.discounts) and all(0 <= x < 1 for x in self.discounts) and different
        what = "at least one number, each of 0 or more and below 1, and no two the same"
        require(self, "discounts", proper, what)
        require(self, "trace", 0 <= self.trace <= 1, "between 0 and 1")
        at_least(self, 0, "coefficient")

    def build(self, context: HeadContext) -> "MultiHorizon":
        """Makes the head."""
        return MultiHorizon(self, context.num_features)


class MultiHorizon(AuxiliaryHead):
    """mean_i (v_i - V_i(x_t))^2 / 2, with v_i the lambda-return at gamma_i, a constant."""

    trains = ("torso", "core")
    capturable = True
    non_negative = True

    discounts: Float[Tensor, " K"]

    def __init__(self, config: MultiHorizonConfig, num_features: int) -> None:
        super().__init__()
        self.coefficient = constant(config.coefficient)
        self.values = orthogonal(nn.Linear(num_features, len(config.discounts)), gain=1.0)
        self.register_buffer("discounts", torch.tensor(config.discounts), persistent=False)
        self._longest = config.discounts.index(max(config.discounts))
        self._trace = config.trace

    def forward(
        self, agent: ActorCritic, output: AgentOutput, trajectory: Trajectory, targets: Targets
    ) -> HeadLoss:
        """Computes the squared errors of every step, averaged over the discounts."""
        unit = agent.value_scale.unit
        values = unit * self.values(output.features)  # [N, B, K]
        returns = lambda_returns(trajectory, values.detach(), self.discounts, self._trace)
        loss = 0.5 * ((returns - values[:-1]) / unit).square().mean(-1)
        explained = explained_variances(values[:-1].detach(), returns, trajectory.valid)
        metrics = {
            "explained_variance": explained.nanmean(),
            "explained_variance_longest": explained[self._longest],
        }
        return HeadLoss(loss, trajectory.valid, metrics)


@torch.no_grad()
def lambda_returns(
    trajectory: Trajectory,
    values: Float[Tensor, "N B K"],
    discounts: Float[Tensor, " K"],
    trace: float,
) -> Float[Tensor, "T B K"]:
    """Returns v_t = r_t + gamma ((1 - lambda) V_{t+1} + lambda v_{t+1}) for each discount gamma.

    The target of a terminated step is its reward alone; a truncated step, and the last of the
    trajectory, bootstrap from V_{t+1}.  Results of invalid steps have no meaning.

    Args:
        trajectory: with its rewards and ends.
        values: of each observation at each discount, the one after the last step included.
        discounts: per agent step.
        trace: lambda.
    """
    result = torch.empty_like(values[1:])
    following = values[-1]
    for t in reversed(range(len(result))):
        truncated, terminated = trajectory.truncated[t], trajectory.terminated[t]
        mixed = torch.lerp(values[t + 1], following, trace)
        future = torch.where(truncated.unsqueeze(-1), values[t + 1], mixed)
        kept = torch.where(terminated.unsqueeze(-1), 0.0, discounts * future)
        following = result[t] = trajectory.reward[t].unsqueeze(-1) + kept
    return result

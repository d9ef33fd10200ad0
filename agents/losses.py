"""Main losses, per step: the learner masks, averages and weighs them.

`A2C` takes its returns from V-trace: on trajectories of the current policy that is
plain A2C, and it stays right where a trajectory is a little older than the policy.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from agents.returns import vtrace
from agents.types import AgentOutput, Trajectory


@dataclass(frozen=True)
class MainLoss:
    """The three parts of an actor-critic's loss, and what the value was compared with."""

    policy: Float[Tensor, "T B"]
    """Its gradient is the policy gradient, downhill."""
    value: Float[Tensor, "T B"]
    """Half the squared error of the value."""
    entropy: Float[Tensor, "T B"]
    """Of the policy, in nats (a bonus: the learner subtracts it)."""
    value_target: Float[Tensor, "T B"]


def entropy(logits: Float[Tensor, "*batch A"]) -> Float[Tensor, " *batch"]:
    """-sum_a p(a) log p(a), in nats."""
    log_probabilities = logits.log_softmax(-1)
    return -(log_probabilities.exp() * log_probabilities).sum(-1)


def log_probability(
    logits: Float[Tensor, "*batch A"], action: Int[Tensor, " *batch"]
) -> Float[Tensor, " *batch"]:
    """Log-probability of the action under softmax(logits)."""
    return logits.log_softmax(-1).gather(-1, action.unsqueeze(-1)).squeeze(-1)


def normalized(advantage: Float[Tensor, "T B"], valid: Bool[Tensor, "T B"]) -> Float[Tensor, "T B"]:
    """Shifts and scales to zero mean and unit variance over the valid steps; 0 at the others."""
    count = valid.sum().clamp(min=1)
    mean = torch.where(valid, advantage, 0.0).sum() / count
    centred = torch.where(valid, advantage - mean, 0.0)
    variance = centred.square().sum() / count
    # As in PPO's codes; the constant matters only where all advantages are alike.
    return centred / (variance.sqrt() + 1e-8)


class Algorithm(ABC):
    """An actor-critic's main loss with the weights of its parts."""

    value_coefficient: float
    entropy_coefficient: float

    @abstractmethod
    def loss(self, output: AgentOutput, trajectory: Trajectory) -> MainLoss:
        """Computes the loss of every step."""


@dataclass(frozen=True)
class A2CConfig:
    """Advantage actor-critic (Mnih et al. 2016) with V-trace (Espeholt et al. 2018)."""

    entropy_coefficient: float = 0.01
    """Weight of the entropy bonus (0.01 in OpenAI Baselines' a2c)."""
    value_coefficient: float = 0.5
    """Weight of the value loss (0.5 in OpenAI Baselines' a2c)."""
    trace: float = 1.0
    """Lambda of V-trace: 1 = n-step returns, 0 = one-step differences."""
    rho_clip: float = 1.0
    """Bound of the importance ratio in targets and advantages (1 in IMPALA)."""
    c_clip: float = 1.0
    """Bound of the importance ratio in the trace (1 in IMPALA)."""
    normalize_advantage: bool = False
    """Give the advantages of each update zero mean and unit variance over its valid steps."""

    def __post_init__(self) -> None:
        for name in ("entropy_coefficient", "value_coefficient"):
            if not 0 <= getattr(self, name) < float("inf"):
                flag = f"--algo.a2c.{name.replace('_', '-')}"
                raise ValueError(f"{flag} must be 0 or more, not {getattr(self, name)}.")
        if not 0 <= self.trace <= 1:
            raise ValueError(f"--algo.a2c.trace must be between 0 and 1, not {self.trace}.")
        if self.rho_clip <= 0 or self.c_clip <= 0:
            raise ValueError("--algo.a2c.rho-clip and --algo.a2c.c-clip must be above 0.")

    def build(self, discount: float) -> "A2C":
        """Makes the loss for a discount per agent step."""
        return A2C(self, discount)


class A2C(Algorithm):
    """-A log pi(a) + c_v (v - V)^2 / 2 - c_e H(pi), with v and A from V-trace."""

    def __init__(self, config: A2CConfig, discount: float) -> None:
        self.value_coefficient = config.value_coefficient
        self.entropy_coefficient = config.entropy_coefficient
        self._config = config
        self._discount = discount

    def loss(self, output: AgentOutput, trajectory: Trajectory) -> MainLoss:
        """Computes policy, value and entropy terms of every step."""
        logits, value = output.logits[:-1], output.value[:-1]
        chosen = log_probability(logits, trajectory.action)
        returns = vtrace(
            chosen.detach() - trajectory.log_probability,
            trajectory.reward,
            output.value.detach(),
            trajectory.terminated,
            trajectory.truncated,
            discount=self._discount,
            trace=self._config.trace,
            rho_clip=self._config.rho_clip,
            c_clip=self._config.c_clip,
        )
        advantage = returns.advantage
        if self._config.normalize_advantage:
            advantage = normalized(advantage, trajectory.valid)
        return MainLoss(
            policy=-advantage * chosen,
            value=0.5 * (returns.target - value).square(),
            entropy=entropy(logits),
            value_target=returns.target,
        )


@dataclass(frozen=True)
class NoneConfig:
    """No main loss: the auxiliary heads alone train the agent (with --gate sum)."""

    def build(self, discount: float) -> "Nothing":
        """Makes the loss; there is nothing to discount."""
        return Nothing()


class Nothing(Algorithm):
    """Zero; the entropy is computed for the log."""

    value_coefficient = 0.0
    entropy_coefficient = 0.0

    def loss(self, output: AgentOutput, trajectory: Trajectory) -> MainLoss:
        """Computes zeros and the policy's entropy."""
        zeros = torch.zeros_like(trajectory.reward)
        return MainLoss(zeros, zeros, entropy(output.logits[:-1]), zeros)


@dataclass(frozen=True)
class Algorithms:
    """The main losses by their command-line names."""

    a2c: A2CConfig = A2CConfig()
    none: NoneConfig = NoneConfig()

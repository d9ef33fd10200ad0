"""Proximal policy optimisation (Schulman et al. 2017, https://arxiv.org/abs/1707.06347).

Advantages and value targets come from the policy that acted (GAE), once per
trajectory; several epochs then go over slices of environments.  Defaults are those of
OpenAI Baselines' ppo2 on Atari, as Huang et al. 2022 list them ("The 37 Implementation
Details of Proximal Policy Optimization",
https://iclr-blog-track.github.io/2022/03/25/ppo-implementation-details/).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from agents.algorithms.base import Algorithm, MainLoss, approximate_kl, entropy, log_probability
from agents.algorithms.returns import gae
from agents.runtime.distributed import ALONE, Processes
from agents.runtime.graphs import Scalar, like
from agents.statistics import normalized
from agents.trajectory import AgentOutput, Targets, Trajectory
from gridworld.options import at_least, require


@dataclass(frozen=True)
class PPOConfig:
    """Proximal policy optimisation (Schulman et al. 2017)."""

    ABSENT: ClassVar[Mapping[str, Any]] = {"advantage_floor": 0.0}
    """What runs did whose `config.json` has no such option yet."""

    epochs: int = 4
    """Passes over each trajectory (Baselines, Atari: 4; 3 in the paper)."""
    minibatches: int = 4
    """Slices of environments, one optimizer step each (Baselines, Atari: 4)."""
    clip: float = 0.1
    """The policy's ratio gains nothing beyond 1 +- this (0.1 in the paper's Table 5)."""
    clip_end: float | None = None
    """Bound at the last step, linear in between (0 in the paper); none: the same throughout."""
    clip_value: bool = True
    """Bound the step of the value as well, by the same number (Baselines)."""
    trace: float = 0.95
    """Lambda of generalised advantages (0.95 in the paper)."""
    entropy_coefficient: float = 0.01
    """Weight of the entropy bonus (0.01 in the paper)."""
    value_coefficient: float = 0.5
    """Weight of the value loss (Baselines: 0.5 times a squared error that is itself halved)."""
    normalize_advantage: bool = True
    """Zero mean and unit variance over the valid steps of each minibatch, by the population's
    deviation (Baselines)."""
    advantage_floor: float = 0.0
    """Least deviation that normalised advantages are divided by, as a share of the spread of values
    (of 1 without --normalize-value); 0: none. Else the updates of a task that is solved are noise
    of full size."""
    max_kl: float | None = None
    """End the epochs early once the mean KL of one is above this; none: never (Baselines)."""

    def __post_init__(self) -> None:
        at_least(self, 1, "epochs", "minibatches")
        at_least(self, 0, "entropy_coefficient", "value_coefficient", "advantage_floor")
        require(self, "clip", self.clip > 0, "above 0")
        require(self, "clip_end", self.clip_end is None or self.clip_end >= 0, "0 or more")
        require(self, "trace", 0 <= self.trace <= 1, "between 0 and 1")
        require(self, "max_kl", self.max_kl is None or self.max_kl > 0, "above 0")

    def build(self, discount: float, processes: Processes = ALONE) -> "PPO":
        """Makes the loss for a discount per agent step."""
        return PPO(self, discount, processes)


@dataclass(frozen=True)
class PPOTargets(Targets):
    """What the policy that acted makes of its trajectory."""

    advantage: Float[Tensor, "T B"]
    value_target: Float[Tensor, "T B"]


@dataclass(frozen=True)
class PolicyLoss:
    """The policy's terms of every step."""

    loss: Float[Tensor, "T B"]
    entropy: Float[Tensor, "T B"]
    metrics: Mapping[str, Tensor]


class PPO(Algorithm):
    """-min(r A, clip(r, 1 - e, 1 + e) A) + c_v (v - V)^2 / 2 - c_e H(pi), r = pi(a) / mu(a)."""

    needs_value = True
    capturable = True

    def __init__(self, config: PPOConfig, discount: float, processes: Processes) -> None:
        """Takes the coefficients over from the config.

        Args:
            config: the options.
            discount: gamma per agent step, from 0 to 1.
            processes: share every batch; means are taken over all of them.
        """
        super().__init__()
        self.value_coefficient = config.value_coefficient
        self.entropy_coefficient = config.entropy_coefficient
        self.epochs = config.epochs
        self.minibatches = config.minibatches
        self.max_kl = config.max_kl
        self._config = config
        self.normalizes_advantage = config.normalize_advantage
        self._discount = discount
        self._processes = processes

    def prepare(self, trajectory: Trajectory) -> PPOTargets:
        """Computes generalised advantages and the value's targets, A + V."""
        assert trajectory.value is not None, "the collector records values for PPO"
        advantage = gae(
            trajectory.reward,
            trajectory.value,
            trajectory.terminated,
            trajectory.truncated,
            discount=self._discount,
            trace=self._config.trace,
        )
        return PPOTargets(advantage, advantage + trajectory.value[:-1])

    def loss(
        self,
        output: AgentOutput,
        trajectory: Trajectory,
        targets: Targets | None = None,
        progress: Scalar = 0.0,
    ) -> MainLoss:
        """Computes policy, value and entropy terms of every step."""
        assert isinstance(targets, PPOTargets)
        policy = self.policy_loss(output, trajectory, targets, progress)
        assert trajectory.value is not None
        old = trajectory.value[:-1] if self._config.clip_value else None
        unit = output.value_unit
        clip = like(self._clip(progress), unit) * unit
        value = clipped_value_loss(output.value[:-1], targets.value_target, old, clip)
        return MainLoss(
            policy=policy.loss,
            value=value,
            entropy=policy.entropy,
            value_target=targets.value_target,
            metrics=policy.metrics,
        )

    def policy_loss(
        self, output: AgentOutput, trajectory: Trajectory, targets: PPOTargets, progress: Scalar
    ) -> PolicyLoss:
        """Computes the clipped surrogate of every step.

        Args:
            output: of the agent as it is now.
            trajectory: with the probabilities under which it was played.
            targets: with its advantages.
            progress: how much of the run is over, from 0 to 1.
        """
        clip = self._clip(progress)
        logits = output.logits[:-1]
        log_ratio = log_probability(logits, trajectory.action) - trajectory.log_probability
        ratio = log_ratio.exp()
        advantage = targets.advantage
        if self._config.normalize_advantage:
            floor = self._config.advantage_floor
            least = floor * output.value_unit if floor > 0 else None
            advantage = normalized(advantage, trajectory.valid, self._processes, least)
        bounded = ratio.clamp(1 - clip, 1 + clip)  # type: ignore[arg-type]
        return PolicyLoss(
            loss=-torch.minimum(ratio * advantage, bounded * advantage),
            entropy=entropy(logits),
            metrics={
                "approximate_kl": approximate_kl(log_ratio.detach()),
                "clipped": (bounded != ratio).to(ratio.dtype),
            },
        )

    def _clip(self, progress: Scalar) -> Scalar:
        start, end = self._config.clip, self._config.clip_end
        return start if end is None else start + (end - start) * progress


def clipped_value_loss(
    value: Float[Tensor, "T B"],
    target: Float[Tensor, "T B"],
    old: Float[Tensor, "T B"] | None,
    clip: Float[Tensor, ""],
) -> Float[Tensor, "T B"]:
    """(V - v)^2 / 2, or the larger of that and the same for V within `clip` of the old one.

    Args:
        value: V, as it is now.
        target: v.
        old: what V was when the trajectory was played; None for no clipping.
        clip: how far V may move before it gains nothing more.
    """
    plain = (value - target).square()
    if old is not None:
        near = old + torch.clamp(value - old, -clip, clip)
        plain = torch.maximum(plain, (near - target).square())
    return 0.5 * plain

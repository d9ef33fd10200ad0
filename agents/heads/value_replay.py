"""Value replay: train the critic on recent trajectories again.

From UNREAL (Jaderberg et al. 2017, https://arxiv.org/abs/1611.05397, section 3.3): value
regression on sequences from the replay, in addition to the on-policy one.  Targets are computed
from the current value, so that what the critic has learnt since spreads further back.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

from agents.algorithms.returns import gae
from agents.heads.base import AuxiliaryHead, HeadContext, HeadLoss, Targets, constant
from agents.heads.components.replay import Replay, make_replay
from agents.networks.actor_critic import ActorCritic
from agents.runtime.random import Stream
from agents.statistics import explained_variance
from agents.trajectory import AgentOutput, Trajectory
from gridworld.options import at_least, require


@dataclass(frozen=True)
class ValueReplayConfig:
    """Trains the critic on recent trajectories, replayed."""

    fraction: float = 0.5
    """Environments replayed at each update, per environment played (1 in the paper)."""
    replay_steps: int | None = None
    """Agent steps in the replay, all environments together; none: 4,096, or sixteen trajectories
    if that is more, but at most 128 MiB (miyosuda/unreal: 2,000 a worker)."""
    trace: float = 1.0
    """Lambda of the targets: 1 = n-step returns (the paper), 0 = one-step differences."""
    coefficient: float = 1.0
    """Weight of the loss (1 in the paper)."""

    def __post_init__(self) -> None:
        require(self, "fraction", 0 < self.fraction <= 1, "above 0 and at most 1")
        at_least(self, 1, "replay_steps")
        require(self, "trace", 0 <= self.trace <= 1, "between 0 and 1")
        at_least(self, 0, "coefficient")

    def build(self, context: HeadContext) -> "ValueReplay":
        """Makes the head and its replay.

        Raises:
            ValueError: the replay does not fit into memory.
        """
        replay = make_replay(self.replay_steps, context.spec, context.unroll_length, context.device)
        return ValueReplay(self, replay, context.stream("replay"), context.discount)


@dataclass(frozen=True)
class ReplayedTargets(Targets):
    """Replayed columns."""

    trajectory: Trajectory
    num_envs: int
    """B of the current trajectory."""

    def select(self, environments: Int[Tensor, " B2"]) -> "ReplayedTargets":
        """Returns the same share of the columns as a minibatch is of its trajectory.

        The minibatch's environments, which are drawn at random, decide which columns.
        """
        replayed = self.trajectory.action.shape[1]
        count = math.ceil(len(environments) * replayed / self.num_envs)
        chosen = environments[:count] % replayed
        return replace(self, trajectory=self.trajectory.select(chosen), num_envs=len(environments))


class ValueReplay(AuxiliaryHead):
    """(R - V(x))^2 / 2 on replayed steps; trains torso, core, value; owns no parameters.

    R = A + V(x) with A from GAE at the current value, without gradient.  As in the paper,
    nothing corrects for changes of the policy since.

    Args:
        config: options.
        replay: of the last trajectories.
        stream: random numbers for drawing columns.
        discount: gamma of the main loss.
    """

    trains = ("torso", "core", "value")
    capturable = True
    non_negative = True
    bypasses_features = True

    def __init__(
        self, config: ValueReplayConfig, replay: Replay, stream: Stream, discount: float
    ) -> None:
        super().__init__()
        self.coefficient = constant(config.coefficient)
        self.replay = replay
        self.stream = stream
        self._fraction = config.fraction
        self._trace = config.trace
        self._discount = discount

    @property
    def held_bytes(self) -> int:
        """Memory of the replay."""
        return self.replay.nbytes

    @torch.no_grad()
    def prepare(self, agent: ActorCritic, trajectory: Trajectory) -> ReplayedTargets:
        """Adds the trajectory to the replay, and draws columns from it."""
        self.replay.add(trajectory)
        num_envs, device = trajectory.action.shape[1], self.replay.device
        count = (math.ceil(self._fraction * num_envs),)
        place = self.stream.integers(len(self.replay), count, device)
        environment = self.stream.integers(num_envs, count, device)
        return ReplayedTargets(self.replay.columns(place, environment), num_envs)

    def forward(
        self, agent: ActorCritic, output: AgentOutput, trajectory: Trajectory, targets: Targets
    ) -> HeadLoss:
        """Computes the critic's loss at every replayed step, `[T, columns]`."""
        assert isinstance(targets, ReplayedTargets)
        replayed = targets.trajectory
        value = agent.unroll(replayed).value
        present = value.detach()
        advantage = gae(
            replayed.reward,
            present,
            replayed.terminated,
            replayed.truncated,
            discount=self._discount,
            trace=self._trace,
        )
        target = present[:-1] + advantage
        metrics = {"explained_variance": explained_variance(present[:-1], target, replayed.valid)}
        error = (target - value[:-1]) / agent.value_scale.unit
        return HeadLoss(0.5 * error.square(), replayed.valid, metrics)

"""Reward prediction: the sign of the next reward, from three observations.

From UNREAL (Jaderberg et al. 2017, https://arxiv.org/abs/1611.05397, section 3.2).  Rewards are
rare, so half of the sequences drawn from a replay lead to a reward.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from agents.heads.base import AuxiliaryHead, HeadContext, HeadLoss, Targets, constant
from agents.heads.components.replay import Replay, draw, make_replay
from agents.networks.actor_critic import ActorCritic
from agents.networks.torsos import orthogonal
from agents.runtime.random import Stream
from agents.statistics import masked_mean
from agents.trajectory import AgentOutput, Trajectory
from gridworld.options import at_least

_CLASSES = 3
"""Negative, zero, positive."""
_LENGTH = 3
"""Observations of a sequence (the paper's)."""
_STEPS_PER_SEQUENCE = 20
"""Steps of one environment per sequence (the paper draws one for each unroll of 20)."""


@dataclass(frozen=True)
class RewardPredictionConfig:
    """Predicts the sign of the next reward."""

    sequences: int | None = None
    """Sequences drawn per trajectory and environment; none: one for every 20 steps (the paper's
    rate)."""
    replay_steps: int | None = None
    """Agent steps in the replay, all environments together; none: 4,096, or sixteen trajectories
    if that is more, but at most 128 MiB (miyosuda/unreal: 2,000 a worker)."""
    width: int = 128
    """Units of the hidden layer (128 in the paper)."""
    coefficient: float = 0.05
    """Weight of the loss (1 in miyosuda/unreal, where the main loss is a sum over 20 steps)."""

    def __post_init__(self) -> None:
        at_least(self, 1, "sequences", "replay_steps", "width")
        at_least(self, 0, "coefficient")

    def build(self, context: HeadContext) -> "RewardPrediction":
        """Makes the head and its replay.

        Raises:
            ValueError: the replay does not fit into memory.
        """
        replay = make_replay(self.replay_steps, context.spec, context.unroll_length, context.device)
        sequences = self.sequences or math.ceil(context.unroll_length / _STEPS_PER_SEQUENCE)
        stream, num_features = context.stream("replay"), context.torso.num_features
        return RewardPrediction(self, replay, stream, num_features, sequences)


@dataclass(frozen=True)
class RewardPredictionTargets(Targets):
    """Sequences, and the sign of the reward that each led to.

    The axis B divides them into minibatches; a sequence may come from any environment.
    """

    observation: Shaped[Tensor, "sequences B length *shape"]
    sign: Int[Tensor, "sequences B"]
    """0, 1, 2: negative, zero, positive."""
    valid: Bool[Tensor, "sequences B"]


class RewardPrediction(AuxiliaryHead):
    """-log p(sign of r_t | x_{t-2}, x_{t-1}, x_t); trains the torso alone.

    A hidden ReLU layer reads the torso's features of the three observations.  Where fewer than
    three lie in the same episode and trajectory, the first of them is repeated.

    Args:
        config: options.
        replay: of the last trajectories.
        stream: random numbers for drawing sequences.
        num_features: F of the torso.
        sequences: drawn per trajectory and environment.
    """

    trains = ("torso",)
    non_negative = True
    bypasses_features = True

    def __init__(
        self,
        config: RewardPredictionConfig,
        replay: Replay,
        stream: Stream,
        num_features: int,
        sequences: int,
    ) -> None:
        super().__init__()
        self.coefficient = constant(config.coefficient)
        self.replay = replay
        self.stream = stream
        self._sequences = sequences
        self.layers = nn.Sequential(
            orthogonal(nn.Linear(_LENGTH * num_features, config.width)),
            nn.ReLU(),
            # All classes nearly equally likely at first, as the policy's actions are.
            orthogonal(nn.Linear(config.width, _CLASSES), gain=0.01),
        )

    @property
    def held_bytes(self) -> int:
        """Memory of the replay."""
        return self.replay.nbytes

    @torch.no_grad()
    def prepare(self, agent: ActorCritic, trajectory: Trajectory) -> RewardPredictionTargets:
        """Adds the trajectory to the replay; draws sequences, half of which lead to a reward."""
        replay = self.replay
        replay.add(trajectory)
        size = (self._sequences, trajectory.action.shape[1])
        rewarding = replay.valid & (replay.reward != 0)
        resting = replay.valid & (replay.reward == 0)
        coin, lot = self.stream.uniform((2, *size), replay.device).flatten(1)
        # Where there is nothing of one kind, all are of the other.
        wants_reward = (coin < 0.5) & rewarding.any() | ~resting.any()
        chosen = torch.where(wants_reward, draw(rewarding, lot), draw(resting, lot))
        _, length, num_envs = replay.valid.shape
        place, time = chosen // (length * num_envs), chosen // num_envs % length
        environment = chosen % num_envs
        start = episode_start(replay.valid)[place, time, environment]
        steps = time.unsqueeze(-1) - torch.arange(_LENGTH - 1, -1, -1, device=replay.device)
        times = steps.maximum(start.unsqueeze(-1))
        observation = replay.observation[place[:, None], times, environment[:, None]]
        sign = replay.reward.flatten()[chosen].sign().long() + 1
        valid = replay.valid.flatten()[chosen]
        return RewardPredictionTargets(
            observation.unflatten(0, size), sign.view(size), valid.view(size)
        )

    def forward(
        self, agent: ActorCritic, output: AgentOutput, trajectory: Trajectory, targets: Targets
    ) -> HeadLoss:
        """Computes the cross-entropy of every sequence, `[sequences, B]`."""
        assert isinstance(targets, RewardPredictionTargets)
        lead = targets.observation.shape[:3]
        seen = agent.see(targets.observation.flatten(0, 2)).features.float()
        logits = self.layers(seen.unflatten(0, lead).flatten(2))
        loss = F.cross_entropy(logits.flatten(0, 1), targets.sign.flatten(), reduction="none")
        metrics = {
            "balanced_accuracy": balanced_accuracy(logits, targets.sign, targets.valid),
            "rewarding": masked_mean((targets.sign != 1).float(), targets.valid),
        }
        return HeadLoss(loss.view(lead[:2]), targets.valid, metrics)


def episode_start(valid: Bool[Tensor, "places T B"]) -> Int[Tensor, "places T B"]:
    """Returns when the episode of each step began; 0 if it began before the trajectory."""
    # The observation after an invalid step is the first of the next episode.
    opens = torch.cat([torch.zeros_like(valid[:, :1]), ~valid[:, :-1]], 1)
    time = torch.arange(valid.shape[1], device=valid.device).view(1, -1, 1)
    return (time * opens).cummax(1).values


def balanced_accuracy(
    logits: Float[Tensor, "sequences B classes"],
    sign: Int[Tensor, "sequences B"],
    valid: Bool[Tensor, "sequences B"],
) -> Float[Tensor, ""]:
    """Returns the share of each class that is recognised, averaged over the classes that occur.

    Args:
        logits: of the classes.
        sign: the true class.
        valid: which sequences count.
    """
    occurs = F.one_hot(sign, logits.shape[-1]).bool() & valid.unsqueeze(-1)
    hit = occurs & (logits.argmax(-1) == sign).unsqueeze(-1)
    # NaN, not measured, where a class does not occur.
    return (hit.sum((0, 1)) / occurs.sum((0, 1))).nanmean()

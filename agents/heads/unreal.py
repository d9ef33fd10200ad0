"""UNREAL's pixel control and reward prediction, both on a small replay.

Jaderberg et al. 2017, "Reinforcement Learning with Unsupervised Auxiliary Tasks"
(https://arxiv.org/abs/1611.05397). Pixel control (section 3.1) learns how to change each cell of
the screen most: n-step Q-learning of one pseudo-reward per cell, with a dueling network of
transposed convolutions. Reward prediction (section 3.2) learns the sign of the next reward from
three observations; rewards are rare, so half of the sequences drawn from the replay lead to one.
The third task, value replay, is in `value_replay`.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from agents.algorithms.returns import gae
from agents.heads.base import AuxiliaryHead, HeadContext, HeadLoss, Targets, constant
from agents.heads.components.decoders import Cells
from agents.heads.components.replay import Replay, draw, make_replay
from agents.heads.components.views import is_image
from agents.networks.actor_critic import ActorCritic, arithmetic
from agents.networks.torsos import orthogonal
from agents.runtime.random import Stream
from agents.statistics import explained_variance, masked_mean
from agents.trajectory import AgentOutput, Trajectory
from gridworld.options import OptionError, at_least, mention, require

_KERNEL, _STRIDE = 4, 2
"""Kernel and stride of the transposed convolution (the paper's)."""


@dataclass(frozen=True)
class PixelControlConfig:
    """Learns how to change each cell of the observation most."""

    cell: int | None = None
    """Side of a cell; none: 4 pixels of an image (the paper's), 1 entry of any other plane."""
    margin: int | None = None
    """Border left out on each side; none: 2 pixels of an image (the paper: 80 of 84), else 0."""
    discount: float = 0.9
    """Discount of the changes, per agent step (0.9 in the paper)."""
    channels: int | None = None
    """Channels of the map that is enlarged to an image's cells; none: 16 (32 in the paper)."""
    coefficient: float = 1.0
    """Weight of the loss, a mean over cells: for images 0.0025 of a sum over the paper's 400 (the
    paper: 0.0001 to 0.01 for Atari)."""

    def __post_init__(self) -> None:
        at_least(self, 1, "cell", "channels")
        at_least(self, 0, "margin", "coefficient")
        require(self, "discount", 0 <= self.discount < 1, "from 0 to below 1")

    def build(self, context: HeadContext) -> "PixelControl":
        """Makes the head.

        Raises:
            ValueError: observations have no height and width, or not one whole cell, or an
                option is for images.
        """
        spec = context.spec
        if len(spec.observation_shape) not in (2, 3):
            raise OptionError(
                "aux",
                "pixel_control needs observations with height and width, but those of "
                f"{spec.name} have shape {spec.observation_shape}: drop it, or (gridworld) use "
                f"{mention('env.observation')} symbols.",
            )
        usual_cell, usual_margin = (4, 2) if is_image(spec) else (1, 0)
        cell = usual_cell if self.cell is None else self.cell
        margin = usual_margin if self.margin is None else self.margin
        cells = Cells(spec, cell, margin)
        if min(cells.height, cells.width) < 1:
            raise OptionError(
                "cell",
                f"{cell} with a margin of {margin} leaves no cell of observations of "
                f"shape {spec.observation_shape}: use a smaller one.",
            )
        outputs = 1 + spec.num_actions
        if is_image(spec):
            maps = enlarging(context.num_features, outputs, cells, self.channels or 16)
        elif self.channels is None:
            maps = dense(context.num_features, outputs, cells)
        else:
            raise OptionError(
                "channels",
                f"is for images, but {spec.name} shows observations of shape "
                f"{spec.observation_shape}, whose cells are computed directly: drop it.",
            )
        # Symbols change often, and by 1: a discounted mean of changes keeps their Q from 0 to 1.
        unit = 1.0 if is_image(spec) else 1 - self.discount
        return PixelControl(self, cells, maps, unit)


@dataclass(frozen=True)
class PixelControlTargets(Targets):
    """The pseudo-rewards."""

    change: Float[Tensor, "T B H W"]


class PixelControl(AuxiliaryHead):
    """Mean over cells of (R - Q(x_t, a_t))^2 / 2; trains torso and core.

    R_t = c_t + gamma R_{t+1}, with max_a Q(x_{t+1}, a) in place of R_{t+1} at the trajectory's
    last step and at a truncation, and 0 after a termination.  Q = V + A - mean_a A.  The
    pseudo-reward c_t is the change of a cell: of an image as it is, otherwise times 1 - gamma.
    The head learns from the learner's own trajectory, where the paper replays one.
    """

    trains = ("torso", "core")
    capturable = True
    non_negative = True

    def __init__(
        self, config: PixelControlConfig, cells: Cells, maps: nn.Module, unit: float
    ) -> None:
        """Builds the head.

        Args:
            config: options.
            cells: of the observation.
            maps: network from features [batch, F] to maps of V and A, [batch, 1 + A, height or
                more, width or more].
            unit: pseudo-reward of a change of 1.
        """
        super().__init__()
        self.coefficient = constant(config.coefficient)
        self._cells = cells
        self._discount = config.discount
        self._unit = unit
        self.maps = maps

    @torch.no_grad()
    def prepare(self, agent: ActorCritic, trajectory: Trajectory) -> PixelControlTargets:
        """Measures the change of every cell."""
        return PixelControlTargets(self._cells.change(trajectory.observation))

    def forward(
        self, agent: ActorCritic, output: AgentOutput, trajectory: Trajectory, targets: Targets
    ) -> HeadLoss:
        """Computes the loss of every step."""
        assert isinstance(targets, PixelControlTargets)
        with arithmetic(agent.precision, output.features.device):
            value, advantage = self.value_and_advantage(output.features)
        num_cells = value.shape[-1]
        base = value - advantage.mean(2)  # [N, B, cells]
        action = trajectory.action[..., None, None].expand(-1, -1, 1, num_cells)
        chosen = base[:-1] + advantage[:-1].gather(2, action).squeeze(2)
        # With a trace of 1, advantages are n-step returns less their values; each cell is a column.
        best = (base + advantage.amax(2)).detach().flatten(1)
        surplus = gae(
            self._unit * targets.change.flatten(1),
            best,
            trajectory.terminated.repeat_interleave(num_cells, 1),
            trajectory.truncated.repeat_interleave(num_cells, 1),
            discount=self._discount,
            trace=1.0,
        )
        target = (best[:-1] + surplus).view_as(chosen)
        valid = trajectory.valid
        metrics = {
            "explained_variance": explained_variance(chosen.detach(), target, valid),
            "change": masked_mean(targets.change.mean((2, 3)), valid),
        }
        return HeadLoss(0.5 * (target - chosen).square().mean(-1), valid, metrics)

    def value_and_advantage(
        self, features: Float[Tensor, "N B F"]
    ) -> tuple[Float[Tensor, "N B cells"], Float[Tensor, "N B A cells"]]:
        """Returns V of every cell and A of every action in it, in float32."""
        maps: Tensor = self.maps(features.flatten(0, 1))
        inside = maps[:, :, : self._cells.height, : self._cells.width].flatten(2).float()
        inside = inside.view(*features.shape[:2], *inside.shape[1:])
        return inside[:, :, 0], inside[:, :, 1:]


def enlarging(num_features: int, outputs: int, cells: Cells, channels: int) -> nn.Module:
    """Builds the paper's network: a dense layer whose 9 x 9 map is enlarged to 20 x 20.

    Args:
        num_features: F, the input's width.
        outputs: channels of the result.
        cells: give its height and width.
        channels: of the map that is enlarged.
    """
    # The smallest map that covers all cells.
    height, width = (max(1, -(-(side - 2) // _STRIDE)) for side in (cells.height, cells.width))
    return nn.Sequential(
        orthogonal(nn.Linear(num_features, channels * height * width)),
        nn.ReLU(),
        nn.Unflatten(1, (channels, height, width)),
        # Nearly zero at first: changes are small.
        orthogonal(nn.ConvTranspose2d(channels, outputs, _KERNEL, _STRIDE), gain=0.01),
    )


def dense(num_features: int, outputs: int, cells: Cells) -> nn.Module:
    """Builds a linear layer, for the few cells of a board or a window.

    Args:
        num_features: F, the input's width.
        outputs: channels of the result.
        cells: give its height and width.
    """
    size = (outputs, cells.height, cells.width)
    linear = nn.Linear(num_features, math.prod(size))
    return nn.Sequential(orthogonal(linear, gain=0.01), nn.Unflatten(1, size))


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
    capturable = True
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

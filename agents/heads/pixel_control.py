"""Pixel control: learn how to change each cell of the screen most.

From UNREAL (Jaderberg et al. 2017, https://arxiv.org/abs/1611.05397, section 3.1): n-step
Q-learning of one pseudo-reward per cell, with a dueling network of transposed convolutions.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from agents.algorithms.returns import gae
from agents.heads.base import AuxiliaryHead, HeadContext, HeadLoss, Targets, constant
from agents.heads.components.decoders import Cells
from agents.heads.components.views import is_image
from agents.networks.actor_critic import ActorCritic
from agents.networks.precision import arithmetic
from agents.networks.torsos import orthogonal
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

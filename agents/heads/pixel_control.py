"""Pixel control: learn, in every cell of the screen, how to change it most.

From UNREAL (Jaderberg et al. 2017, https://arxiv.org/abs/1611.05397, section 3.1): n-step
Q-learning of one pseudo-reward per cell, by a dueling network of transposed convolutions.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from agents.agent import ActorCritic
from agents.augment import is_image
from agents.heads.base import AuxiliaryHead, HeadContext, HeadLoss, Schedule, Targets
from agents.masked import explained_variance_of_vectors, masked_mean
from agents.precision import arithmetic
from agents.returns import gae
from agents.torsos.base import orthogonal
from agents.types import AgentOutput, Trajectory
from envs.base import EnvSpec

_FLAG = "--aux.pixel-control"
_KERNEL, _STRIDE = 4, 2
"""Of the transposed convolution (the paper's)."""


@dataclass(frozen=True)
class PixelControlConfig:
    """Learns how to change each cell of the observation most."""

    cell: int | None = None
    """Side of a cell; none: 4 pixels of an image (the paper's), 1 entry of any other plane."""
    margin: int | None = None
    """Left out at every border; none: 2 pixels of an image (the paper: 80 of 84), else nothing."""
    discount: float = 0.9
    """Gamma of the changes, per agent step (0.9 in the paper)."""
    channels: int = 32
    """Of the map that is enlarged (32 in the paper)."""
    coefficient: float = 1.0
    """Weight of the loss, a mean over cells: 0.0025 of a sum over the paper's 400 (the paper:
    0.0001 to 0.01 for Atari)."""

    def __post_init__(self) -> None:
        if self.cell is not None and self.cell < 1:
            raise ValueError(f"{_FLAG}.cell must be at least 1, not {self.cell}.")
        if self.margin is not None and self.margin < 0:
            raise ValueError(f"{_FLAG}.margin must be 0 or more, not {self.margin}.")
        if not 0 <= self.discount < 1:
            raise ValueError(f"{_FLAG}.discount must be from 0 to below 1, not {self.discount}.")
        if self.channels < 1:
            raise ValueError(f"{_FLAG}.channels must be at least 1, not {self.channels}.")
        if not 0 <= self.coefficient < float("inf"):
            raise ValueError(f"{_FLAG}.coefficient must be 0 or more, not {self.coefficient}.")

    def build(self, context: HeadContext) -> "PixelControl":
        """Makes the head.

        Raises:
            ValueError: observations have no height and width, or not one whole cell.
        """
        spec = context.spec
        if len(spec.observation_shape) not in (2, 3):
            raise ValueError(
                f"--aux pixel_control needs observations with height and width, but those of "
                f"{spec.name} have shape {spec.observation_shape}: drop it, or (gridworld) use "
                "--env.observation symbols."
            )
        usual_cell, usual_margin = (4, 2) if is_image(spec) else (1, 0)
        cell = usual_cell if self.cell is None else self.cell
        margin = usual_margin if self.margin is None else self.margin
        cells = Cells(spec, cell, margin)
        if min(cells.height, cells.width) < 1:
            raise ValueError(
                f"{_FLAG}.cell {cell} with a margin of {margin} leaves no cell of observations of "
                f"shape {spec.observation_shape}: use a smaller one."
            )
        return PixelControl(self, cells, context.num_features, spec.num_actions)


class Cells:
    """How much each cell of the newest frame changes from one observation to the next.

    Symbols change or do not (0 or 1); amounts change by their difference, bytes in units of 255.
    A cell's change is the mean over its entries and, for colours or planes, over channels.
    """

    def __init__(self, spec: EnvSpec, cell: int, margin: int) -> None:
        self._cell, self._margin = cell, margin
        self._is_symbolic = spec.num_symbols > 0
        self._scale = 1 / 255 if spec.observation_dtype == torch.uint8 else 1.0
        *channels, height, width = spec.observation_shape
        self._newest = channels[0] // spec.num_frames if channels else 0
        self.height, self.width = ((side - 2 * margin) // cell for side in (height, width))

    def change(self, observation: Shaped[Tensor, " N B *shape"]) -> Float[Tensor, "T B H W"]:
        """The change that every step brings to every cell."""
        frame = observation[:, :, -self._newest :] if self._newest else observation.unsqueeze(2)
        rows, columns = self.height * self._cell, self.width * self._cell
        margin = self._margin
        frame = frame[..., margin : margin + rows, margin : margin + columns]
        if self._is_symbolic:
            change = (frame[1:] != frame[:-1]).float()
        else:
            change = (frame[1:].float() - frame[:-1].float()).abs() * self._scale
        lead = change.shape[:2]
        pooled = F.avg_pool2d(change.mean(2).flatten(0, 1).unsqueeze(1), self._cell)
        return pooled.view(*lead, self.height, self.width)


@dataclass(frozen=True)
class PixelControlTargets(Targets):
    """The pseudo-rewards."""

    change: Float[Tensor, "T B H W"]


class PixelControl(AuxiliaryHead):
    """Mean over cells of (R - Q(x_t, a_t))^2 / 2; reaches torso and core.

    R_t = c_t + gamma R_{t+1}, and max_a Q(x_{t+1}, a) in place of R_{t+1} at the trajectory's
    last step and at a truncation, nothing after a termination.  Q = V + A - mean_a A.
    Learns from the learner's own trajectory, where the paper replays one.
    """

    trains = ("torso", "core")
    non_negative = True

    def __init__(
        self, config: PixelControlConfig, cells: Cells, num_features: int, num_actions: int
    ) -> None:
        super().__init__()
        self.coefficient = Schedule(config.coefficient, config.coefficient, 0)
        self._cells = cells
        self._discount = config.discount
        # The smallest map that is enlarged to all cells: 9 x 9 for 20 x 20.
        smallest = [max(1, -(-(side - 2) // _STRIDE)) for side in (cells.height, cells.width)]
        self._map = (config.channels, *smallest)
        size = config.channels * smallest[0] * smallest[1]
        self.dense = orthogonal(nn.Linear(num_features, size))
        # Nearly zero at first: changes are small.
        enlarge = nn.ConvTranspose2d(config.channels, 1 + num_actions, _KERNEL, _STRIDE)
        self.enlarge = orthogonal(enlarge, gain=0.01)

    @torch.no_grad()
    def prepare(self, agent: ActorCritic, trajectory: Trajectory) -> PixelControlTargets:
        """Measures what changed."""
        return PixelControlTargets(self._cells.change(trajectory.observation))

    def forward(
        self, agent: ActorCritic, output: AgentOutput, trajectory: Trajectory, targets: Targets
    ) -> HeadLoss:
        """Computes the loss of every step."""
        assert isinstance(targets, PixelControlTargets)
        with arithmetic(agent.precision, output.features.device):
            quality = self.quality(output.features)  # [N, B, A, H W]
        num_cells = quality.shape[-1]
        action = trajectory.action[..., None, None].expand(-1, -1, 1, num_cells)
        chosen = quality[:-1].gather(2, action).squeeze(2)
        # With a trace of 1, advantages are n-step returns less their values; each cell is a column.
        best = quality.detach().amax(2).flatten(1)
        advantage = gae(
            targets.change.flatten(1),
            best,
            trajectory.terminated.repeat_interleave(num_cells, 1),
            trajectory.truncated.repeat_interleave(num_cells, 1),
            discount=self._discount,
            trace=1.0,
        )
        target = (best[:-1] + advantage).view_as(chosen)
        valid = trajectory.valid
        metrics = {
            "explained_variance": explained_variance_of_vectors(chosen.detach(), target, valid),
            "change": masked_mean(targets.change.mean((2, 3)), valid),
        }
        return HeadLoss(0.5 * (target - chosen).square().mean(-1), valid, metrics)

    def quality(self, features: Float[Tensor, "N B F"]) -> Float[Tensor, "N B A cells"]:
        """Q of every action in every cell, in float32."""
        maps = torch.relu(self.dense(features.flatten(0, 1))).unflatten(1, self._map)
        enlarged: Tensor = self.enlarge(maps).float()
        inside = enlarged[:, :, : self._cells.height, : self._cells.width].flatten(2)
        value, advantage = inside[:, :1], inside[:, 1:]
        quality = value + advantage - advantage.mean(1, keepdim=True)
        return quality.view(*features.shape[:2], *quality.shape[1:])

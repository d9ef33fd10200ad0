"""Catch: a ball falls, a paddle must be under it; learnt in seconds.

From Mnih et al. 2014, "Recurrent Models of Visual Attention"
(https://arxiv.org/abs/1406.6247), in the form of bsuite (Osband et al. 2020,
https://arxiv.org/abs/1908.03568): 10 rows, 5 columns, the paddle starts in the
middle of the bottom row and the ball in a random column of the top row.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from envs.base import EnvSpec, Step, VecEnv, check_action, check_action_range, check_room
from envs.names import departures, separated_seeds
from gridworld.options import OptionError, at_least, require

_NUM_ACTIONS = 3
"""Left, stay, right."""
_PIXELS = 16
"""Along each side of a cell in a picture."""
_BACKGROUND, _BALL, _PADDLE = (32, 32, 32), (240, 200, 60), (90, 170, 240)


@dataclass(frozen=True)
class CatchConfig:
    """Options of Catch."""

    rows: int = 10
    """Height of the board; an episode takes one step fewer."""
    columns: int = 5
    """Width of the board."""
    max_episode_steps: int = 0
    """Agent steps until truncation, before the ball arrives; 0 for none."""
    mirrored: bool = False
    """Exchange LEFT and RIGHT, for a task that needs the opposite of what the usual one needs."""

    def __post_init__(self) -> None:
        require(self, "rows", self.rows >= 2, "at least 2 for a ball to fall")
        at_least(self, 1, "columns")
        if not 0 <= self.max_episode_steps < self.rows - 1:
            raise OptionError(
                "max_episode_steps",
                f"{self.max_episode_steps} has no effect on episodes of "
                f"{self.rows - 1} steps: use 0 for no limit, or fewer steps than that.",
            )

    @staticmethod
    def names() -> tuple[str, ...]:
        """Lists the environments that `build` knows."""
        return ("Catch",)

    def build(
        self, name: str, num_envs: int, seed: int, device: torch.device, render: bool = False
    ) -> "CatchVecEnv":
        """Sets up `num_envs` boards on `device`; `render` makes them ready to be drawn.

        Args:
            name: of the environment, one of `names()`.
            num_envs: B, the environments stepped together.
            seed: all randomness of the environments follows from it.
            device: where observations, rewards and flags live.
            render: whether `VecEnv.render` will be called.

        Raises:
            OptionError: the boards do not fit into memory.
        """
        check_room(num_envs, 4 * self.rows * self.columns, device)
        return CatchVecEnv(self, name, num_envs, seed, device, render)


class CatchVecEnv(VecEnv):
    """B boards as tensors: no loop and no host synchronisation on a GPU.

    The reward is 1 for a caught ball and -1 for a lost one, 0 on the way.  An
    observation is the board, 1 at the ball and at the paddle, 0 elsewhere.
    """

    def __init__(
        self,
        config: CatchConfig,
        name: str,
        num_envs: int,
        seed: int,
        device: torch.device,
        render: bool,
    ) -> None:
        """Makes the boards and drops the first balls.

        Args:
            config: the options, such as the size of the board.
            name: of the environment.
            num_envs: B, the boards.
            seed: of the columns that balls fall in.
            device: where the boards live.
            render: whether `render` will be called.
        """
        self.device = device
        self._renders = render
        self.spec = EnvSpec(
            name=name,
            num_envs=num_envs,
            observation_shape=(config.rows, config.columns),
            observation_dtype=torch.float32,
            num_actions=_NUM_ACTIONS,
            action_set="Catch:left-stay-right",
            protocol="raw" + departures(config),
        )
        self._rows, self._columns = config.rows, config.columns
        self._right = -1 if config.mirrored else 1
        self._time_limit = config.max_episode_steps or config.rows
        self._generator = torch.Generator(device).manual_seed(separated_seeds(seed, 1)[0])
        self.reset()

    @property
    def action_names(self) -> tuple[str, ...]:
        """Where the paddle goes."""
        names = ("LEFT", "STAY", "RIGHT")
        return names if self._right == 1 else names[::-1]

    def reset(self) -> Float[Tensor, "B rows columns"]:
        """Drops a new ball everywhere."""
        num_envs = self.spec.num_envs
        self._ball_row = torch.zeros(num_envs, dtype=torch.int64, device=self.device)
        self._ball_column = self._random_columns()
        self._paddle = torch.full_like(self._ball_row, self._columns // 2)
        self._must_reset = torch.zeros(num_envs, dtype=torch.bool, device=self.device)
        return self._observe()

    def step(self, action: Int[Tensor, " B"]) -> Step:
        """Moves the paddle by one column and the ball by one row."""
        check_action(action, self.spec)
        if self.device.type == "cpu":
            check_action_range(action, self.spec)
        resets = self._must_reset
        # Drawn for every board, so that shapes do not depend on how many restart.
        fresh_column = self._random_columns()
        paddle = (self._paddle + self._right * (action - 1)).clamp(0, self._columns - 1)
        self._ball_row = torch.where(resets, 0, self._ball_row + 1)
        self._ball_column = torch.where(resets, fresh_column, self._ball_column)
        self._paddle = torch.where(resets, self._columns // 2, paddle)

        terminated = self._ball_row == self._rows - 1
        # The ball falls a row a step, so its row is also the episode's length.
        truncated = (self._ball_row >= self._time_limit) & ~terminated
        caught = torch.where(self._paddle == self._ball_column, 1.0, -1.0)
        self._must_reset = terminated | truncated
        return Step(
            observation=self._observe(),
            reward=torch.where(terminated, caught, 0.0),
            terminated=terminated,
            truncated=truncated,
            valid=~resets,
            ended=self._must_reset,
        )

    def render(self, index: int = 0) -> UInt8[np.ndarray, "H W 3"]:
        """Draws a board, each cell a square; a caught ball hides the paddle."""
        if not self._renders:
            return super().render(index)
        picture = np.full((self._rows, self._columns, 3), _BACKGROUND, dtype=np.uint8)
        # Host synchronisation: a picture is looked at there.
        picture[-1, int(self._paddle[index])] = _PADDLE
        picture[int(self._ball_row[index]), int(self._ball_column[index])] = _BALL
        return picture.repeat(_PIXELS, axis=0).repeat(_PIXELS, axis=1)

    def close(self) -> None:
        """Nothing to free."""

    def snapshot(self) -> dict[str, Tensor]:
        """Copies the boards and the generator's state."""
        return {
            "ball_row": self._ball_row.clone(),
            "ball_column": self._ball_column.clone(),
            "paddle": self._paddle.clone(),
            "must_reset": self._must_reset.clone(),
            "generator": self._generator.get_state(),
        }

    def restore(self, snapshot: Mapping[str, Tensor]) -> Float[Tensor, "B rows columns"]:
        """Continues exactly as the environment that gave `snapshot` would."""
        self._ball_row = snapshot["ball_row"].to(self.device)
        self._ball_column = snapshot["ball_column"].to(self.device)
        self._paddle = snapshot["paddle"].to(self.device)
        self._must_reset = snapshot["must_reset"].to(self.device)
        # A generator's state lives on the host, whatever its device.
        self._generator.set_state(snapshot["generator"].cpu())
        return self._observe()

    def _random_columns(self) -> Int[Tensor, " B"]:
        return torch.randint(
            self._columns, (self.spec.num_envs,), generator=self._generator, device=self.device
        )

    def _observe(self) -> Float[Tensor, "B rows columns"]:
        cell = torch.arange(self._rows * self._columns, device=self.device)
        ball = self._ball_row * self._columns + self._ball_column
        paddle = (self._rows - 1) * self._columns + self._paddle
        board = (cell == ball[:, None]) | (cell == paddle[:, None])
        return board.float().view(-1, self._rows, self._columns)

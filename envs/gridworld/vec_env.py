"""The gridworld behind `VecEnv`: B agents, each in a world drawn from the pool per episode."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float32, Int64, Shaped, UInt8
from torch import Tensor

import gridworld
from envs.base import EnvSpec, Step, VecEnv, check_action, check_action_range
from envs.gridworld.world_pool import TEACHERS, ChanceStream, Pool
from gridworld import WorldConfig
from gridworld.hashing import Keys

Encoding = Literal["symbols", "one-hot", "flat"]
"""`symbols`: a byte per cell of the window, which says what the cell holds; `one-hot`: a plane
per kind of cell; `flat`: the planes as one vector."""


def observation_of(
    config: WorldConfig, encoding: Encoding
) -> tuple[tuple[int, ...], torch.dtype, int]:
    """Shape and dtype of an observation, and of how many symbols it is made (0: of amounts)."""
    view, kinds = config.view_size, config.num_kinds
    if encoding == "symbols":
        return (view, view), torch.uint8, kinds
    shape = (kinds, view, view) if encoding == "one-hot" else (kinds * view * view,)
    return shape, torch.float32, 0


class GridVecEnv(VecEnv):
    """B agents as tensors of flat states: no loop and no host synchronisation on a GPU.

    Reward, moves, noise and ends are those of `gridworld.step`; every episode takes
    place in a world of the pool, all equally likely.
    """

    def __init__(
        self, pool: Pool, encoding: Encoding, spec: EnvSpec, seed: int, render: bool
    ) -> None:
        """Draws a first world for every agent.

        Args:
            pool: the worlds, which other environments may share.
            encoding: how an observation shows the cells in view.
            spec: of the environments.
            seed: of the worlds' draws, the slips and the random ends of episodes.
            render: whether `render` will be called.
        """
        self.spec = spec
        self.device = pool.worlds.device
        self._pool = pool
        self._worlds = pool.worlds
        self._encoding: Encoding = encoding
        self._renders = render
        self._chance = ChanceStream(
            pool.worlds.config, len(pool.worlds), spec.num_envs, seed, self.device
        )
        self.reset()

    def reset(self) -> Shaped[Tensor, " B *shape"]:
        """Draws a world for every agent and puts it at its start."""
        _, world = self._chance.draw()
        self._state = self._worlds.start.index_select(0, world)
        self._time = torch.zeros_like(self._state)
        self._must_reset = torch.zeros_like(self._state, dtype=torch.bool)
        return self._observe()

    def step(self, action: Int64[Tensor, " B"]) -> Step:
        """Moves every agent, or puts it into its next world."""
        check_action(action, self.spec)
        if self.device.type == "cpu":
            check_action_range(action, self.spec)
        resets = self._must_reset
        chance, world = self._chance.draw()
        after = gridworld.step(self._worlds, self._state, self._time, action, chance)
        self._state, self._time = gridworld.restart(
            self._worlds, after.state, after.time, resets, world
        )
        valid = ~resets
        terminated, truncated = after.terminated & valid, after.truncated & valid
        self._must_reset = terminated | truncated
        return Step(
            observation=self._observe(),
            reward=after.reward.masked_fill(resets, 0.0),
            terminated=terminated,
            truncated=truncated,
            valid=valid,
            ended=self._must_reset,
            state=self._state,
        )

    @property
    def state(self) -> Int64[Tensor, " B"]:
        """Flat states: the world's place in the pool times its cells, plus the cell."""
        return self._state

    @property
    def optimum(self) -> Float32[Tensor, " B"] | None:
        """What the best policy is expected to score in the present episodes' worlds."""
        optimum = self._pool.optimum
        return None if optimum is None else optimum.index_select(0, self._world())

    @property
    def action_names(self) -> tuple[str, ...]:
        """Where the agent goes."""
        return ("UP", "RIGHT", "DOWN", "LEFT")

    @property
    def teachers(self) -> tuple[str, ...]:
        """Names of the teachers, each of which knows every world of the pool."""
        return TEACHERS

    def teacher_logits(self, name: str) -> Float32[Tensor, "states A"]:
        """The values of all actions in every flat state, as one of the `teachers` sees them."""
        return self._pool.teacher(name)

    def render(self, index: int = 0) -> UInt8[np.ndarray, "H W 3"]:
        """Draws the whole world of one agent, who does not see all of it."""
        if not self._renders:
            return super().render(index)
        # Host synchronisation: a picture is looked at there.
        world, cell = divmod(int(self._state[index]), self._worlds.config.cells)
        return gridworld.image(self._worlds, world, cell)

    def close(self) -> None:
        """Nothing to free; the pool may be in use elsewhere."""

    def snapshot(self) -> dict[str, Tensor]:
        """Copies the agents' states and times, and how many random numbers have been drawn."""
        return {
            "state": self._state.clone(),
            "time": self._time.clone(),
            "must_reset": self._must_reset.clone(),
            "chance": self._chance.keys.lanes.clone(),
            "step": torch.tensor(self._chance.step),
            "worlds": self._worlds.fingerprint(),
        }

    def restore(self, snapshot: Mapping[str, Tensor]) -> Shaped[Tensor, " B *shape"]:
        """Continues exactly as the environment that gave `snapshot` would.

        Raises:
            ValueError: if it was playing in other worlds.
        """
        if not torch.equal(snapshot["worlds"].to(self.device), self._worlds.fingerprint()):
            raise ValueError(f"{self.spec.name} was left in other worlds than these.")
        self._state = snapshot["state"].to(self.device)
        self._time = snapshot["time"].to(self.device)
        self._must_reset = snapshot["must_reset"].to(self.device)
        keys = Keys(snapshot["chance"].to(self.device))
        self._chance.go_to(keys, int(snapshot["step"]))
        return self._observe()

    def _world(self) -> Int64[Tensor, " B"]:
        return self._state // self._worlds.config.cells

    def _observe(self) -> Shaped[Tensor, " B *shape"]:
        seen = gridworld.symbols(self._worlds, self._state)
        if self._encoding == "symbols":
            return seen
        planes = gridworld.one_hot(seen, self._worlds.config.num_kinds)
        return planes if self._encoding == "one-hot" else planes.flatten(1)

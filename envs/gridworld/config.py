"""The gridworld: thousands of procedural, partially observable worlds on the learner's device.

After "Distilling Policy Distillation" (Czarnecki et al. 2019,
https://arxiv.org/abs/1902.02186); see `gridworld`.  Here are its options: which worlds,
how many, and how they are seen.
"""

from dataclasses import dataclass, fields, replace
from math import prod
from typing import Literal

import torch

from envs.base import EnvSpec, check_room
from envs.gridworld.vec_env import Encoding, GridVecEnv, observation_of
from envs.gridworld.world_pool import pool
from envs.names import departures
from gridworld import NUM_ACTIONS, OptionError, WorldConfig
from gridworld.options import at_least, mention, require

HELD_OUT_WORLDS = 1000
"""Worlds that a trained policy is scored in (as many as Du et al. 2018, Figure 4, average)."""


@dataclass(frozen=True)
class GridConfig:
    """Options of the gridworld; what is not told here is told by `gridworld.WorldConfig`."""

    num_worlds: int = 4096
    """Worlds of the pool; every episode takes place in one drawn from it."""
    first_world: int = 0
    """Number of the pool's first world; pools of other numbers have other worlds."""
    world_seed: int = 0
    """World k of a seed is always the same, whatever the seed of the run."""
    without_copies_of: int = 0
    """Leave out worlds that equal one of so many worlds before the first."""
    observation: Encoding = "symbols"
    """Bytes that say what each cell holds, or the same as one-hot planes, or these flat."""
    max_episode_steps: int = 0
    """Agent steps until truncation; 0 for none."""
    view_radius: int = WorldConfig.view_radius
    """What is seen is the square of cells up to so far away."""
    layout: str = WorldConfig.layout
    """Where the walls are: scattered, rooms, maze or empty."""
    height: int = WorldConfig.height
    """Rows, the border among them."""
    width: int = WorldConfig.width
    """Columns, the border among them."""
    wall_probability: float | None = WorldConfig.wall_probability
    """Probability of a wall on a free cell; none: 0.1 for scattered, else 0."""
    terminal_rewards: tuple[float, ...] = WorldConfig.terminal_rewards
    """Rewards of entering the cells that end an episode, one kind of cell each."""
    terminal_probability: float = WorldConfig.terminal_probability
    """Probability of each kind of terminal cell on a free cell."""
    penalty: float = WorldConfig.penalty
    """Reward of each step that leads to, or stays on, a penalty cell."""
    penalty_probability: float = WorldConfig.penalty_probability
    """Probability of a penalty cell on a free cell."""
    start: Literal["centre", "random"] = WorldConfig.start
    """The free cell nearest to the centre, or a random empty one per world."""
    action_noise: float = WorldConfig.action_noise
    """A move is replaced by a random one of all four with this probability."""
    termination_probability: float = WorldConfig.termination_probability
    """Probability that the episode ends after a step, whatever it led to."""
    discount: float = WorldConfig.discount
    """Gamma of the worlds' own teachers; worlds have an optimal return above 0 under it."""

    def __post_init__(self) -> None:
        at_least(self, 1, "num_worlds")
        if not 0 <= self.first_world <= 2**32 - self.num_worlds:
            raise OptionError(
                "first_world",
                "must be 0 or more, and the last world's number below 2**32; "
                f"it is {self.first_world}.",
            )
        require(self, "world_seed", 0 <= self.world_seed < 2**63, "0 or more and below 2**63")
        if not 0 <= self.without_copies_of <= self.first_world:
            raise OptionError(
                "without_copies_of",
                f"must be 0 or more and at most {mention('first_world')} "
                f"{self.first_world}, not {self.without_copies_of}: no more worlds come before.",
            )
        known = self.observation in ("symbols", "one-hot", "flat")
        require(self, "observation", known, "symbols, one-hot or flat")
        self.worlds()

    def worlds(self) -> WorldConfig:
        """The settings of the worlds themselves.

        Raises:
            ValueError: if they make no sense.
        """
        return WorldConfig(**{each.name: getattr(self, each.name) for each in fields(WorldConfig)})

    @property
    def world_set(self) -> str:
        """Names the pool, so that a teacher of another pool is refused."""
        copies = f" without copies of {self.without_copies_of}" if self.without_copies_of else ""
        return (
            f"{self.num_worlds} worlds from number {self.first_world} of seed {self.world_seed}"
            f"{copies}{departures(self.worlds())}"
        )

    def held_out(self) -> "GridConfig":
        """The same options with the next worlds after the pool, none of them equal to one in it."""
        first = self.first_world + self.num_worlds
        return replace(
            self,
            first_world=first,
            num_worlds=min(HELD_OUT_WORLDS, 2**32 - first),
            without_copies_of=self.num_worlds,
        )

    @property
    def protocol(self) -> str:
        """What is printed with a score; held-out worlds are called so, without their numbers."""
        if not self.without_copies_of:
            return "raw" + departures(self)
        usual = GridConfig(
            num_worlds=self.num_worlds,
            first_world=self.first_world,
            without_copies_of=self.without_copies_of,
        )
        return "raw+held-out" + departures(self, usual)

    @staticmethod
    def names() -> tuple[str, ...]:
        """Lists the environments that `build` knows."""
        return ("Gridworld",)

    def build(
        self, name: str, num_envs: int, seed: int, device: torch.device, render: bool = False
    ) -> GridVecEnv:
        """Sets up `num_envs` agents on `device`, each of which draws its own worlds from the pool.

        Args:
            name: of the environment, one of `names()`.
            num_envs: B, the agents stepped together.
            seed: of the worlds' draws, the slips and the random ends of episodes.
            device: where the worlds, observations and rewards live.
            render: whether `VecEnv.render` will be called.

        Raises:
            ValueError: no such worlds can be made, or the agents do not fit into memory.
        """
        worlds = self.worlds()
        shape, dtype, num_symbols = observation_of(worlds, self.observation)
        spec = EnvSpec(
            name=name,
            num_envs=num_envs,
            observation_shape=shape,
            observation_dtype=dtype,
            num_actions=NUM_ACTIONS,
            action_set="Gridworld:up-right-down-left",
            protocol=self.protocol,
            num_symbols=num_symbols,
            world_set=self.world_set,
        )
        check_room(num_envs, prod(shape) * dtype.itemsize, device)
        numbers = (self.first_world, self.num_worlds, self.without_copies_of)
        known = pool(worlds, self.world_seed, *numbers, device)
        return GridVecEnv(known, self.observation, spec, seed, render)

"""MiniGrid: small worlds seen through a window of 7 x 7 cells, played by envpool.

Chevalier-Boisvert et al. 2023, "Minigrid & Miniworld: Modular & Customizable Reinforcement
Learning Environments for Goal-Oriented Tasks" (https://arxiv.org/abs/2306.13831).

A cell is told by three numbers: what it holds, in which colour, in which state.  They are names
rather than amounts, so each becomes a one-hot vector, and the agent's direction another one that
is the same in every cell.  The mission, a sentence, is not read.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Bool, Float

from envs.base import EnvSpec, VecEnv
from envs.emulators import EmulatedVecEnv, PoolOptions
from envs.envpool.pool import EnvpoolEmulators, check_installed, is_installed, tasks
from envs.names import canonical, departures, nearest
from gridworld.options import at_least

KINDS = (11, 6, 3, 4)
"""How many objects, colours and states of doors there are (minigrid/core/constants.py), and
directions."""

_PREFIX = "minigrid/"
_VIEW = 7
_EXAMPLES = ("Empty-8x8", "DoorKey-6x6", "FourRooms", "MultiRoom-N2-S4", "KeyCorridorS3R1")
"""Known even where envpool is missing, so that the refusal says what to install."""


@dataclass(frozen=True)
class MinigridConfig(PoolOptions):
    """Options of the MiniGrid environments."""

    max_episode_steps: int = 0
    """Agent steps until truncation; 0 for the environment's own limit, by which rewards shrink."""

    GAME_BYTES: ClassVar[int] = 2**15  # measured: 46 KiB (DoorKey-6x6) and more

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 0, "max_episode_steps")

    @staticmethod
    def names() -> tuple[str, ...]:
        """Lists the environments, as `minigrid/DoorKey-6x6`."""
        if not is_installed():
            return tuple(_PREFIX + name for name in _EXAMPLES)
        return tuple(_PREFIX + _short(task) for task in _tasks())

    @staticmethod
    def respell(name: str) -> str:
        """Turns an id, as `MiniGrid-DoorKey-6x6-v0`, into the name that is used here.

        Raises:
            ValueError: it is an id of BabyAI, whose tasks agents here cannot know.
        """
        if re.fullmatch(r"babyai-.*-v\d", name.lower()):
            raise ValueError(
                f"{name} says by its mission alone what is to be done, and agents here do not "
                f"read missions: choose another environment, as {_PREFIX}{_EXAMPLES[0]}."
            )
        is_id = name.lower().startswith("minigrid-")
        return _PREFIX + _short(name) if is_id else name

    def build(
        self, name: str, num_envs: int, seed: int, device: torch.device, render: bool = False
    ) -> VecEnv:
        """Starts `num_envs` copies of one environment whose tensors live on `device`.

        Args:
            name: of the environment, as `minigrid/DoorKey-6x6`, whatever its case.
            num_envs: B, over all pools.
            seed: of the worlds.
            device: of the learner.
            render: whether pictures will be asked for.

        Raises:
            ValueError: there is no such environment, envpool is missing, or B cannot be divided
                among the pools.
        """
        known = canonical(name, self.names())
        if known is None:
            likely = ", ".join(nearest(name, self.names()))
            raise ValueError(f"Unknown MiniGrid environment '{name}': did you mean {likely}?")
        check_installed(known)
        task = {_PREFIX + _short(task): task for task in _tasks()}[known]

        def start(seeds: list[int], num_threads: int) -> EmulatedVecEnv:
            games = _MinigridEmulators(task, seeds, num_threads, render, self.max_episode_steps)
            spec = EnvSpec(
                name=known,
                num_envs=len(seeds),
                observation_shape=games.observation_shape,
                observation_dtype=torch.float32,
                num_actions=games.num_actions,
                action_set=f"MiniGrid:{games.num_actions}",  # the first of the same seven
                protocol="raw" + departures(self),
                steps_per_second=10.0,  # as MiniGrid's own metadata says
            )
            return EmulatedVecEnv(games, spec, device, render)

        return self.in_pools(num_envs, seed, device, start)


class _MinigridEmulators(EnvpoolEmulators):
    """Worlds whose cells are told by one-hot planes."""

    @property
    def action_names(self) -> tuple[str, ...]:
        """MiniGrid's own; LEFT and RIGHT turn the agent."""
        names = ("LEFT", "RIGHT", "FORWARD", "PICKUP", "DROP", "TOGGLE", "DONE")
        return names[: self.num_actions]

    def _shape(self, space: spaces.Space[Any]) -> tuple[int, ...]:
        assert isinstance(space, spaces.Dict)
        assert space["image"].shape == (_VIEW, _VIEW, 3)
        return (sum(KINDS), _VIEW, _VIEW)

    def _observe(self, raw: Any) -> Float[np.ndarray, "B C H W"]:
        """One-hot planes of objects, colours, states and directions."""
        # MiniGrid counts columns before rows; here rows come first, as in any image.
        cells = raw["image"].swapaxes(1, 2)  # [B, row, column, 3]
        direction = np.broadcast_to(raw["direction"].reshape(-1, 1, 1), cells.shape[:3])
        names = (*np.moveaxis(cells, -1, 0), direction)
        planes = [
            name[:, None] == np.arange(kinds).reshape(1, -1, 1, 1)
            for name, kinds in zip(names, KINDS, strict=True)
        ]
        return np.concatenate(planes, axis=1, dtype=np.float32)

    def _is_over(
        self,
        terminated: Bool[np.ndarray, " B"],
        truncated: Bool[np.ndarray, " B"],
        reward: Float[np.ndarray, " B"],
        info: Mapping[str, Any],
    ) -> Bool[np.ndarray, " B"]:
        """Worlds that are over; without a reward, one that ends on the last step is truncated."""
        # Rewards come with an end alone: for success, or in some worlds for a collision.
        over: Bool[np.ndarray, " B"] = terminated | (truncated & (reward != 0))
        return over


def _tasks() -> tuple[str, ...]:
    return tuple(task for task in tasks("minigrid") if task.startswith("MiniGrid-"))


def _short(task: str) -> str:
    """Leaves out of an id what all have in common; only later versions are named."""
    return re.sub("^minigrid-|-v0$", "", task, flags=re.IGNORECASE)

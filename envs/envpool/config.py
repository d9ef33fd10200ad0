"""Any other game of envpool by its id: `envpool/CartPole-v1`, `envpool/LunarLander-v3`, ..."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Shaped

from envs.base import EnvSpec, VecEnv
from envs.emulators import EmulatedVecEnv, PoolOptions
from envs.envpool.pool import EnvpoolEmulators, check_installed, is_installed, spec_of, tasks
from envs.names import canonical, departures, nearest
from gridworld.options import at_least

_PREFIX = "envpool/"
_ELSEWHERE = ("atari", "minigrid", "procgen")
"""Modules of envpool whose games are families of their own here."""
_EXAMPLES = ("CartPole-v1", "Acrobot-v1", "MountainCar-v0", "LunarLander-v3")
"""Known even where envpool is missing, so that the refusal says what to install."""
_INT32 = np.iinfo(np.int32).max


@dataclass(frozen=True)
class EnvpoolConfig(PoolOptions):
    """Options of envpool's games."""

    max_episode_steps: int = 0
    """Agent steps until truncation; 0 for the limit that the game is registered with."""

    GAME_BYTES: ClassVar[int] = 24 * 2**10  # measured: 27 KiB (CartPole-v1) and more

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 0, "max_episode_steps")

    @staticmethod
    def names() -> tuple[str, ...]:
        """Lists envpool's ids, as `envpool/CartPole-v1`, those that `build` refuses included."""
        if not is_installed():
            return tuple(_PREFIX + task for task in _EXAMPLES)
        known = [task for task, module in tasks().items() if module not in _ELSEWHERE]
        # Some are registered twice, in upper and in lower case.
        return tuple({task.lower(): _PREFIX + task for task in reversed(known)}.values())

    def build(
        self, name: str, num_envs: int, seed: int, device: torch.device, render: bool = False
    ) -> VecEnv:
        """Starts `num_envs` copies of one game whose tensors live on `device`.

        Args:
            name: of the game, as `envpool/CartPole-v1`, whatever its case.
            num_envs: B, over all pools.
            seed: of the games.
            device: of the learner.
            render: whether pictures will be asked for.

        Raises:
            ValueError: there is no such game, an agent cannot play it, envpool or a library is
                missing, or B cannot be divided among the pools.
        """
        known = canonical(name, self.names())
        if known is None:
            likely = ", ".join(nearest(name, self.names()))
            raise ValueError(f"Unknown game of envpool '{name}': did you mean {likely}?")
        check_installed(known)
        task = known.removeprefix(_PREFIX)
        game = _playable(known, task)
        limit = self.max_episode_steps or game.time_limit
        # envpool calls a game that is lost on the last step truncated: its limit is never reached.
        options = {"max_episode_steps": min(limit + 1, _INT32)} if limit else {}
        num_actions = int(game.actions.n)
        spec = EnvSpec(
            name=known,
            num_envs=num_envs,
            observation_shape=tuple(game.observation.shape),
            observation_dtype=torch.uint8 if _is_pixels(game.observation) else torch.float32,
            num_actions=num_actions,
            action_set=f"{known}:discrete{num_actions}",
            protocol="raw" + departures(self),
            steps_per_second=30.0,
        )

        def start(seeds: list[int], num_threads: int) -> EmulatedVecEnv:
            games = _VectorEmulators(task, seeds, num_threads, render, limit, options)
            return EmulatedVecEnv(games, replace(spec, num_envs=len(seeds)), device, render)

        return self.in_pools(num_envs, seed, device, start)


class _VectorEmulators(EnvpoolEmulators):
    """Games that are seen as one array; everything but pixels becomes float32."""

    def _observe(self, raw: Any) -> Shaped[np.ndarray, " B *shape"]:
        observation: Shaped[np.ndarray, " B *shape"] = raw
        if _is_pixels(observation[0]):
            return observation
        return observation.astype(np.float32, copy=False)


def _is_pixels(array: Any) -> bool:
    """Whether an array, or a space of arrays, is made of bytes of rank 3."""
    return bool(array.dtype == np.uint8 and len(array.shape) == 3)


def _playable(name: str, task: str) -> Any:
    """What envpool says of a game.

    Raises:
        ValueError: an agent cannot play it, or a library is missing.
    """
    try:
        game = spec_of(task)
    except Exception as error:  # a game's own code may fail in any way
        said = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{name} could not be made: {said.rstrip('.')}.") from error
    if not isinstance(game.actions, spaces.Discrete):
        raise ValueError(
            f"{name} has the actions {game.actions}; only a finite set (Discrete) is supported."
        )
    if game.num_players > 1:
        raise ValueError(
            f"{name} is for {game.num_players} players; only games for one are supported."
        )
    if not isinstance(game.observation, spaces.Box):
        raise ValueError(f"{name} observes {game.observation}; only arrays (Box) are supported.")
    return game

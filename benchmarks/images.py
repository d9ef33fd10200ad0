"""Games as Stable-Baselines3's and CleanRL's usual stacks show them, for `learners.py`.

The packages are the peers': stable-baselines3, ale-py and opencv for `atari`, envpool for
`Procgen`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Float, Int, UInt8

Pictures = UInt8[np.ndarray, "B H W C"]


def atari(game: str, num_envs: int, seed: int) -> Any:
    """What rl-baselines3-zoo trains on: `make_atari_env` on ale-py, four frames stacked."""
    import ale_py
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack, VecTransposeImage

    gymnasium.register_envs(ale_py)
    many = make_atari_env(f"{game}NoFrameskip-v4", n_envs=num_envs, seed=seed)
    return VecTransposeImage(VecFrameStack(many, n_stack=4))


def callback(ended: Callable[[int, float], None]) -> Callable[..., bool]:
    """A callback of Stable-Baselines3 that tells of every finished game.

    Its `Monitor` lies below the wrappers that end a life and clip rewards, so it knows whole games.

    Args:
        ended: takes the agent steps of all environments, and the game's score.
    """

    def after_step(names: Mapping[str, Any], _: Mapping[str, Any]) -> bool:
        for info in names["infos"]:
            if "episode" in info:
                ended(names["self"].num_timesteps, info["episode"]["r"])
        return True

    return after_step


class Procgen:
    """envpool's Procgen as CleanRL's `ppo_procgen.py` expects the procgen package's.

    Where a level ends, the step brings the first observation of the next one.  Rewards are divided
    by the spread of the discounted return and clipped to +-10, as NormalizeReward and
    TransformReward of gym 0.23 did; the scores of finished levels are raw.
    """

    def __init__(
        self,
        num_envs: int,
        env_name: str,
        num_levels: int,
        start_level: int,
        distribution_mode: str,
        seed: int,
        gamma: float,
    ) -> None:
        """Starts the games, on one thread.

        Args:
            num_envs: B.
            env_name: of the game, as `bigfish`.
            num_levels: levels to draw from; 0 for all.
            start_level: number of the first.
            distribution_mode: easy or hard.
            seed: of the levels.
            gamma: discount of the return that scales rewards.
        """
        import envpool
        from gymnasium.wrappers.utils import RunningMeanStd

        self._pool = envpool.make(
            f"{env_name.capitalize()}{distribution_mode.capitalize()}-v0",
            env_type="gymnasium",
            num_envs=num_envs,
            num_threads=1,
            num_levels=num_levels,
            start_level=start_level,
            channel_first=False,
            seed=seed,
        )
        self.single_observation_space = self._pool.observation_space
        self.single_action_space = self._pool.action_space
        self._gamma, self._spread = gamma, RunningMeanStd()
        self._discounted, self._score = np.zeros(num_envs), np.zeros(num_envs)
        self._length = np.zeros(num_envs, int)

    def reset(self) -> Pictures:
        """Starts a level everywhere."""
        observation: Pictures = self._pool.reset()[0]
        return observation

    def step(
        self, action: Int[np.ndarray, " B"]
    ) -> tuple[Pictures, Float[np.ndarray, " B"], Any, list[Any]]:
        """Plays a step; returns observations, rewards, which levels ended, and their scores."""
        observation, reward, terminated, truncated, _ = self._pool.step(action)
        done = terminated | truncated
        self._score += reward
        self._length += 1
        self._discounted = self._discounted * self._gamma + reward
        self._spread.update(self._discounted)
        scaled = (reward / np.sqrt(self._spread.var + 1e-8)).clip(-10, 10)
        over = np.flatnonzero(done).astype(np.int32)
        ended = [{"episode": {"r": self._score[i], "l": self._length[i]}} for i in over]
        if len(over):
            # Arrays of envpool may belong to it.
            observation = observation.copy()
            observation[over] = self._pool.reset(over)[0]
            for each in (self._discounted, self._score, self._length):
                each[over] = 0
        return observation, scaled, done, ended

    def close(self) -> None:
        """Ends the games."""
        self._pool.close()

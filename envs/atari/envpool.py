"""Atari games by envpool.

Weng et al. 2022, "EnvPool: A Highly Parallel Reinforcement Learning Environment
Execution Engine" (https://arxiv.org/abs/2206.10558).

This is the only module that imports envpool, and only when a game is built or
listed, so that everything else works without it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from envs.atari.vec_env import AtariOptions, Emulators, Outcome


def games() -> tuple[str, ...]:
    """Lists envpool's games by plain name."""
    from envpool.registration import registry

    return tuple(
        task.removesuffix("-v5")
        for task, (module, *_) in registry.specs.items()
        if module == "envpool.atari"
    )


class EnvpoolEmulators(Emulators):
    """Games in envpool's synchronous mode: in order, whatever the number of threads."""

    def __init__(
        self,
        options: AtariOptions,
        game: str,
        seeds: Sequence[int],
        num_threads: int,
        render: bool,
    ) -> None:
        """Starts the threads.

        Args:
            options: how the game is played.
            game: as envpool spells it.
            seeds: one for each environment: a single number would seed the i-th with seed + i.
            num_threads: that play.
            render: whether pictures will be asked for.
        """
        import envpool

        self._pool: Any = envpool.make(
            f"{game}-v5",
            env_type="gymnasium",
            num_envs=len(seeds),
            num_threads=num_threads,
            seed=list(seeds),
            noop_max=options.noop_max,
            frame_skip=options.frame_skip,
            stack_num=options.frame_stack,
            max_episode_steps=options.max_episode_steps,
            episodic_life=options.episodic_life,
            repeat_action_probability=options.sticky_actions,
            full_action_space=options.full_action_space,
            use_fire_reset=options.fire_reset,
            reward_clip=False,
            render_mode="rgb_array" if render else None,
        )
        self.observation_shape = tuple(self._pool.observation_space.shape)
        self.num_actions = int(self._pool.action_space.n)
        self._must_reset = np.zeros(len(seeds), dtype=np.bool_)

    def reset(self) -> UInt8[np.ndarray, "B S H W"]:
        """Starts a new game everywhere."""
        observation: UInt8[np.ndarray, "B S H W"]
        observation, _ = self._pool.reset()
        self._must_reset = np.zeros_like(self._must_reset)
        return observation

    def send(self, action: Int[np.ndarray, " B"]) -> None:
        """Lets the threads begin a step."""
        self._pool.send(action)

    def receive(self) -> Outcome:
        """Waits for the step.

        On the very step of the time limit envpool calls a finished game truncated.
        """
        observation, reward, terminated, truncated, info = self._pool.recv()
        game_over = info["terminated"].astype(np.bool_)
        terminated = terminated | game_over
        truncated = truncated & ~game_over
        valid = ~self._must_reset
        self._must_reset = terminated | truncated
        return Outcome(
            observation, reward, terminated, truncated, valid, ended=game_over | truncated
        )

    def render(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """Draws the screen of one game, in colour."""
        picture: UInt8[np.ndarray, "H W 3"] = self._pool.render(index)[0]
        return picture

    def close(self) -> None:
        """Ends the threads that play."""
        # They end with the last reference; the pool's own `close` shuts viewers only.
        self._pool = None

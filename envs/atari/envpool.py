"""Atari games by envpool (see `envs.envpool.pool`)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from envs.atari.games import action_names
from envs.atari.options import AtariOptions
from envs.envpool.pool import EnvpoolEmulators, tasks


def games() -> tuple[str, ...]:
    """Lists envpool's games by plain name."""
    return tuple(task.removesuffix("-v5") for task in tasks("atari"))


class EnvpoolAtari(EnvpoolEmulators):
    """Games whose lives may end a step's future, while the game goes on."""

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
            seeds: one for each environment.
            num_threads: that play.
            render: whether pictures will be asked for.
        """
        played: dict[str, Any] = {
            "noop_max": options.noop_max,
            "frame_skip": options.frame_skip,
            "stack_num": options.frame_stack,
            "max_episode_steps": options.max_episode_steps,
            "episodic_life": options.episodic_life,
            "repeat_action_probability": options.sticky_actions,
            "full_action_space": options.full_action_space,
            "use_fire_reset": options.fire_reset,
            "reward_clip": False,
        }
        super().__init__(f"{game}-v5", seeds, num_threads, render, options=played)
        self._game = game

    @property
    def action_names(self) -> tuple[str, ...]:
        """Those of ale-py, whose order envpool has too; empty where ale-py is not installed."""
        return action_names(self._game, self.num_actions)

    def _is_over(
        self,
        terminated: Bool[np.ndarray, " B"],
        truncated: Bool[np.ndarray, " B"],
        reward: Float[np.ndarray, " B"],
        info: Mapping[str, Any],
    ) -> Bool[np.ndarray, " B"]:
        """Games without lives; a lost life terminates as well, but ends no game."""
        over: Bool[np.ndarray, " B"] = info["terminated"].astype(np.bool_)
        return over

"""Procgen: sixteen games whose levels are generated, played by envpool.

Cobbe, Hesse, Hilton, Schulman 2020, "Leveraging Procedural Generation to Benchmark
Reinforcement Learning" (https://arxiv.org/abs/1912.01588).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float

from envs.base import EnvSpec, VecEnv
from envs.emulators import EmulatedVecEnv, PoolOptions
from envs.envpool.pool import EnvpoolEmulators, check_installed, spec_of, tasks
from envs.names import canonical, departures, nearest
from gridworld.options import OptionError, at_least, mention

GAMES = (
    *("bigfish", "bossfight", "caveflyer", "chaser", "climber", "coinrun", "dodgeball", "fruitbot"),
    *("heist", "jumper", "leaper", "maze", "miner", "ninja", "plunder", "starpilot"),
)

_PREFIX = "procgen/"
_LAST = 2**31 - 1
"""Levels have numbers below this."""


@dataclass(frozen=True)
class ProcgenConfig(PoolOptions):
    """Options of the Procgen games."""

    difficulty: Literal["easy", "hard", "extreme", "memory", "exploration"] = "easy"
    """The paper's easy or hard; some games also have extreme, memory or exploration."""
    levels: int = 0
    """Levels to train in; evaluation plays all later ones. 0: all (the paper: 200, hard 500)."""
    start_level: int = 0
    """Number of the first of these levels."""
    max_episode_steps: int = 0
    """Agent steps until truncation; 0 for the game's own limit, 500 to 6,000."""

    GAME_BYTES: ClassVar[int] = 2**18  # measured: 0.5 MiB (heist) to 1.1 MiB (coinrun)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 0, "levels", "start_level", "max_episode_steps")
        if self.start_level + self.levels > _LAST:
            raise OptionError(
                "start_level",
                f"and {mention('levels')} must be {_LAST} or less together, not "
                f"{self.start_level + self.levels}.",
            )
        if self.start_level and not self.levels:
            raise OptionError(
                "start_level",
                f"{self.start_level} does nothing while {mention('levels')} is 0: give "
                f"{mention('levels')} a number, as 200.",
            )

    @property
    def _is_held_out(self) -> bool:
        return self.start_level > 0 and self.start_level + self.levels == _LAST

    def held_out(self) -> "ProcgenConfig":
        """The same options with all levels after those of training; without a limit, the same."""
        if not self.levels:
            return self
        first = self.start_level + self.levels
        return replace(self, start_level=first, levels=_LAST - first)

    @property
    def protocol(self) -> str:
        """What is printed with a score; held-out levels are called so, without their numbers."""
        if not self._is_held_out:
            return "raw" + departures(self)
        return "raw+held-out" + departures(replace(self, levels=0, start_level=0))

    @staticmethod
    def names() -> tuple[str, ...]:
        """Lists the sixteen games, as `procgen/coinrun`."""
        return tuple(_PREFIX + game for game in GAMES)

    @staticmethod
    def respell(name: str) -> str:
        """Returns `name`, unless it is envpool's id of a game.

        Raises:
            ValueError: it is such an id; says what to choose instead.
        """
        match = re.fullmatch(rf"({'|'.join(GAMES)})([a-z]+)-v0", name.lower())
        if match:
            raise OptionError(
                "",
                f"{name} is envpool's name: choose {_PREFIX}{match[1]} and "
                f"{mention('env.difficulty')} {match[2]}.",
            )
        return name

    def build(
        self, name: str, num_envs: int, seed: int, device: torch.device, render: bool = False
    ) -> VecEnv:
        """Starts `num_envs` copies of one game whose tensors live on `device`.

        Args:
            name: of the game, as `procgen/coinrun`, whatever its case.
            num_envs: B, over all pools.
            seed: of the order in which levels are drawn, and of what is random in them.
            device: of the learner.
            render: whether pictures will be asked for.

        Raises:
            ValueError: there is no such game or difficulty, envpool or Qt 5 is missing, or B
                cannot be divided among the pools.
        """
        known = canonical(name, self.names())
        if known is None:
            likely = ", ".join(nearest(name, self.names()))
            raise ValueError(f"Unknown Procgen game '{name}': did you mean {likely}?")
        check_installed(known)
        task = self._task(known)
        spec = EnvSpec(
            name=known,
            num_envs=num_envs,
            observation_shape=(3, 64, 64),
            observation_dtype=torch.uint8,
            num_actions=15,
            action_set="Procgen:15",  # the same in every game
            protocol=self.protocol,
            steps_per_second=15.0,  # as the package's own interactive mode
        )
        options: dict[str, Any] = {"num_levels": self.levels, "start_level": self.start_level}

        def start(seeds: list[int], num_threads: int) -> EmulatedVecEnv:
            games = _ProcgenEmulators(
                task, seeds, num_threads, render, self.max_episode_steps, options
            )
            return EmulatedVecEnv(games, replace(spec, num_envs=len(seeds)), device, render)

        return self.in_pools(num_envs, seed, device, start)

    def _task(self, name: str) -> str:
        """The id of the game at this difficulty in envpool."""
        game = name.removeprefix(_PREFIX).capitalize()
        offered = [task for task in tasks("procgen") if task.startswith(game)]
        task = f"{game}{self.difficulty.capitalize()}-v0"
        if task not in offered:
            others = [task.removeprefix(game).removesuffix("-v0").lower() for task in offered]
            choice = " or ".join([", ".join(others[:-1]), others[-1]])
            raise OptionError("difficulty", f"of {name} is {choice}, not {self.difficulty}.")
        try:
            spec_of(task)
        except ImportError as error:
            raise ValueError(
                f"{name} needs the libraries Qt5Core and Qt5Gui: install them by "
                "'apt-get install libqt5core5a libqt5gui5' (Debian, Ubuntu) or 'dnf install "
                "qt5-qtbase' (Fedora)."
            ) from error
        return task


class _ProcgenEmulators(EnvpoolEmulators):
    """Games that say whether a level was solved on the last step that its time allows."""

    @property
    def action_names(self) -> tuple[str, ...]:
        """The console's directions, and the keys that some games use (Cobbe et al. 2020)."""
        directions = ("DOWNLEFT", "LEFT", "UPLEFT", "DOWN", "NOOP", "UP")
        return (*directions, "DOWNRIGHT", "RIGHT", "UPRIGHT", "D", "A", "W", "S", "Q", "E")

    def _is_over(
        self,
        terminated: Bool[np.ndarray, " B"],
        truncated: Bool[np.ndarray, " B"],
        reward: Float[np.ndarray, " B"],
        info: Mapping[str, Any],
    ) -> Bool[np.ndarray, " B"]:
        """Levels that are lost or solved; one lost on the last step counts as truncated."""
        solved: Bool[np.ndarray, " B"] = info["prev_level_complete"].astype(np.bool_)
        over: Bool[np.ndarray, " B"] = terminated | (truncated & solved)
        return over

"""Atari games by ale-py, the Arcade Learning Environment's own package.

Bellemare et al. 2013, "The Arcade Learning Environment: An Evaluation Platform for
General Agents" (https://arxiv.org/abs/1207.4708); Machado et al. 2018
(https://arxiv.org/abs/1709.06009).

This is the only module that imports ale-py, and only when a game is built or listed.
"""

import re
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from envs.atari.options import AtariOptions
from envs.emulators import Emulators, Outcome

_SIDE = 84
"""Height and width of an observation, in pixels (Mnih et al. 2015)."""

_NEVER = 2**30
"""Frames that no game lasts: ale-py's own limit leaves the last frame out of the observation."""

_OLDEST = [0, 12, 1]
"""The first version that resets some games of several and hands out the others as they are."""

_FOR_TWO = ("combat", "joust", "maze_craze", "warlords")
"""Games that end the process when one player builds them."""


def games() -> tuple[str, ...]:
    """Lists ale-py's games for one player, spelt as envpool spells them."""
    from ale_py import roms

    return tuple(_camel_case(rom) for rom in roms.get_all_rom_ids() if rom not in _FOR_TWO)


def minimal_actions(game: str) -> tuple[str, ...]:
    """Names the actions that a game uses, in their order; empty for a game that is not here.

    Loads the game, which takes up to a second.
    """
    from ale_py import ALEInterface, LoggerMode, roms

    rom = next((rom for rom in roms.get_all_rom_ids() if _camel_case(rom) == game), None)
    path = None if rom is None else roms.get_rom_path(rom)
    if path is None:
        return ()
    ALEInterface.setLoggerMode(LoggerMode.Error)
    ale = ALEInterface()
    ale.loadROM(path)
    return tuple(action.name for action in ale.getMinimalActionSet())


class AleEmulators(Emulators):
    """Games in ale-py's vector environment, with lives and time limit kept here.

    ale-py can end an episode with a life, but then it starts the game anew.  So it is
    told nothing of lives: where one is lost, the action of the next step is replaced by
    an opening one (FIRE if `fire_reset` asks for it, else no-op), and the step is
    invalid, as the contract has it.
    """

    def __init__(
        self, options: AtariOptions, game: str, seeds: Sequence[int], num_threads: int
    ) -> None:
        """Starts the threads.

        Args:
            options: how the game is played.
            game: as envpool spells it.
            seeds: one for each environment.
            num_threads: that play.
        """
        _check_version()
        from ale_py import Action, roms
        from ale_py.vector_env import AtariVectorEnv

        rom = next(rom for rom in roms.get_all_rom_ids() if _camel_case(rom) == game)
        self._pool: Any = AtariVectorEnv(
            rom,
            num_envs=len(seeds),
            num_threads=num_threads,
            img_height=_SIDE,
            img_width=_SIDE,
            noop_max=options.noop_max,
            frameskip=options.frame_skip,
            stack_num=options.frame_stack,
            max_num_frames_per_episode=_NEVER,
            episodic_life=False,
            repeat_action_probability=options.sticky_actions,
            full_action_space=options.full_action_space,
            use_fire_reset=options.fire_reset,
            reward_clipping=False,
        )
        self.observation_shape = (options.frame_stack, _SIDE, _SIDE)
        actions = list(self._pool.ale.get_action_set())
        self.num_actions = len(actions)
        fires = options.fire_reset and Action.FIRE in actions
        # The few games without a no-op begin with FIRE instead.
        self._opening = actions.index(Action.FIRE) if fires else 0
        self._episodic_life = options.episodic_life
        self._time_limit = options.max_episode_steps
        self._seeds: Any = np.array(seeds)
        self._lives: Int[np.ndarray, " B"]
        self._observation: UInt8[np.ndarray, "B S H W"]

    @property
    def action_names(self) -> tuple[str, ...]:
        """The names that ale-py gives them."""
        return tuple(action.name for action in self._pool.ale.get_action_set())

    def reset(self) -> UInt8[np.ndarray, "B S H W"]:
        """Starts a new game everywhere; the first call seeds the games."""
        self._observation, info = self._pool.reset(seed=self._seeds)
        self._seeds = None
        self._lives = info["lives"]
        self._length = np.zeros_like(self._lives)  # agent steps of the episode, valid ones
        self._must_reset = np.zeros_like(self._lives, dtype=np.bool_)
        self._was_truncated = self._must_reset
        return self._observation

    def send(self, action: Int[np.ndarray, " B"]) -> None:
        """Lets the threads begin a step."""
        self._pool.send(np.where(self._must_reset, self._opening, action))

    def receive(self) -> Outcome:
        """Waits for the step, and restarts the games that ale-py does not restart."""
        observation, reward, game_over, _, info = self._pool.recv()
        valid = ~self._must_reset
        # A finished game was started anew by ale-py itself; not so one that was truncated, nor
        # one that is lost in the step after a lost life, which nobody is told of.
        restarts = self._was_truncated | (game_over & ~valid)
        if restarts.any():
            observation, info = self._pool.reset(options={"reset_mask": restarts})
        lives = info["lives"]
        life_lost = (lives < self._lives) & (lives > 0)

        game_over = game_over & valid
        self._length += valid
        truncated = (self._length >= self._time_limit) & valid & ~game_over
        ended = game_over | truncated
        terminated = game_over
        if self._episodic_life:
            terminated = game_over | (life_lost & valid & ~truncated)

        self._length[ended] = 0
        self._observation, self._lives = observation, lives
        self._must_reset, self._was_truncated = terminated | truncated, truncated
        earned = np.where(valid, reward, 0).astype(np.float32)
        return Outcome(observation, earned, terminated, truncated, valid, ended)

    def render(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """Draws the newest frame that one game's agent sees: grey, there is no other picture."""
        return self._observation[index, -1, :, :, None].repeat(3, axis=2)

    def close(self) -> None:
        """Ends the threads that play."""
        # They end with the last reference.
        self._pool = None


def _check_version() -> None:
    found = metadata.version("ale-py")
    if [int(number) for number in re.findall(r"\d+", found)[:3]] < _OLDEST:
        raise ValueError(
            f"ale-py {found} cannot restart one game of several: pip install "
            f"'ale-py>={'.'.join(map(str, _OLDEST))}'."
        )


def _camel_case(rom: str) -> str:
    return "".join(word.capitalize() for word in rom.split("_"))

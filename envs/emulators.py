"""Games that native threads play, behind the contract: Atari, Procgen, MiniGrid and others."""

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor

from envs.base import (
    EnvSpec,
    Step,
    VecEnv,
    check_action,
    check_action_range,
    check_room,
    moved,
)
from envs.joined import VecEnvParts
from envs.names import separated_seeds
from gridworld.options import OptionError, mention

_WORTH_HALVING = 8
"""From so many environments on, two pools are the default: each still fills a few cores."""


@dataclass(frozen=True)
class PoolOptions:
    """How native code plays B games side by side; none of this changes a game."""

    # Not compared: the same games are played whatever the number of threads and pools.
    num_threads: int = field(default=0, compare=False)
    """Threads that play in each pool; 0 for one per environment, at most the available cores."""
    pools: int = field(default=0, compare=False)
    """Parts that play in turn while others wait for their actions; 0 for two if that pays."""

    GAME_BYTES: ClassVar[int] = 0
    """The least memory of one game; families set what they measured."""

    def __post_init__(self) -> None:
        for option in ("num_threads", "pools"):
            if getattr(self, option) < 0:
                raise OptionError(
                    option,
                    f"must not be negative, but is {getattr(self, option)}; "
                    "use 0 to have it chosen.",
                )

    def in_pools(
        self,
        num_envs: int,
        seed: int,
        device: torch.device,
        start: Callable[[list[int], int], VecEnv],
        observation_bytes: int = 0,
    ) -> VecEnv:
        """Starts B environments in as many pools as the options say.

        Args:
            num_envs: B, over all pools.
            seed: environment i plays the same whatever the number of pools.
            device: of the learner.
            start: starts one pool, given a seed for each environment and the number of threads.
            observation_bytes: of one observation, where options can make it large.

        Raises:
            OptionError: B cannot be divided among the pools, or needs more memory than is free.
        """
        # The games are played on the host, wherever the learner is.
        check_room(num_envs, self.GAME_BYTES + observation_bytes, torch.device("cpu"))
        size = num_envs // self._num_pools(num_envs)
        seeds = separated_seeds(seed, num_envs)
        num_threads = self.num_threads or usual_threads(size, available_cores(), device)
        parts = [start(seeds[i : i + size], num_threads) for i in range(0, num_envs, size)]
        return parts[0] if len(parts) == 1 else VecEnvParts(parts)

    def _num_pools(self, num_envs: int) -> int:
        if self.pools == 0:
            return 2 if num_envs % 2 == 0 and num_envs >= _WORTH_HALVING else 1
        if num_envs % self.pools:
            raise OptionError(
                "pools",
                f"{self.pools} does not divide {mention('num_envs')} {num_envs}: change one of "
                f"the two, or use {mention('pools')} 0 to have it chosen.",
            )
        return self.pools


@dataclass(frozen=True)
class Outcome:
    """One step of B games, on the host; the fields mean what those of `Step` mean."""

    observation: Shaped[np.ndarray, " B *shape"]
    reward: Float[np.ndarray, " B"]
    terminated: Bool[np.ndarray, " B"]
    truncated: Bool[np.ndarray, " B"]
    valid: Bool[np.ndarray, " B"]
    ended: Bool[np.ndarray, " B"]


class Emulators(ABC):
    """B copies of one game, played side by side by threads of native code.

    Arrays that are handed out are never written to again.
    """

    observation_shape: tuple[int, ...]
    num_actions: int

    @property
    def action_names(self) -> tuple[str, ...]:
        """What each action does, in capitals; empty where that is not known."""
        return ()

    @abstractmethod
    def reset(self) -> Shaped[np.ndarray, " B *shape"]:
        """Starts a new game everywhere."""

    @abstractmethod
    def send(self, action: Int[np.ndarray, " B"]) -> None:
        """Lets the threads begin a step, and returns at once."""

    @abstractmethod
    def receive(self) -> Outcome:
        """Waits for the step that `send` began."""

    @abstractmethod
    def render(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """Draws one game; only asked for if it was announced when the emulators were made."""

    @abstractmethod
    def close(self) -> None:
        """Ends the threads; may be called again."""


class EmulatedVecEnv(VecEnv):
    """The games as tensors; between `send` and `receive` they play while the caller computes.

    Termination: where a lost life terminates, as the learner is to see it, `ended` still
    waits for the game to be over or truncated.  Where the game is over on the very step of
    the time limit, the step terminates: there is no future to bootstrap from.

    The emulators cannot be saved: a resumed run starts fresh episodes.
    """

    def __init__(
        self, emulators: Emulators, spec: EnvSpec, device: torch.device, render: bool
    ) -> None:
        """Takes over emulators that were just started.

        Args:
            emulators: play the B games; this class closes them.
            spec: of the games.
            device: where observations, rewards and flags go.
            render: whether `emulators` can draw.
        """
        self.spec, self.device = spec, device
        self._emulators = emulators
        self._renders = render
        self._playing = False
        self._process = os.getpid()

    @property
    def action_names(self) -> tuple[str, ...]:
        """What each action of the games does."""
        return self._emulators.action_names

    def reset(self) -> Shaped[Tensor, " B *shape"]:
        """Starts a new game everywhere."""
        self._check_process()
        assert not self._playing, "receive() the last step before a reset"
        return self._to_device(self._emulators.reset())

    def step(self, action: Int[Tensor, " B"]) -> Step:
        """Plays one agent step in every game."""
        self.send(action)
        return self.receive()

    def send(self, action: Int[Tensor, " B"]) -> None:
        """Lets the games play one agent step on threads of their own."""
        self._check_process()
        assert not self._playing, "receive() the last step before sending the next"
        check_action(action, self.spec)
        # Host synchronisation: the emulators run on the CPU.
        host_action = action.cpu()
        check_action_range(host_action, self.spec)
        self._emulators.send(host_action.numpy())
        self._playing = True

    def receive(self) -> Step:
        """Waits until all games have played."""
        self._check_process()
        assert self._playing, "send() an action before receiving"
        outcome = self._emulators.receive()
        self._playing = False
        flags = [outcome.terminated, outcome.truncated, outcome.valid, outcome.ended]
        # One transfer for the four of them.
        terminated, truncated, valid, ended = self._to_device(np.stack(flags))
        return Step(
            observation=self._to_device(outcome.observation),
            reward=self._to_device(outcome.reward),
            terminated=terminated,
            truncated=truncated,
            valid=valid,
            ended=ended,
        )

    def render(self, index: int = 0) -> UInt8[np.ndarray, "H W 3"]:
        """Draws game `index` as its emulator does."""
        if not self._renders:
            return super().render(index)
        assert not self._playing, "receive() the last step before drawing"
        # Native code would read beyond its memory.
        assert 0 <= index < self.spec.num_envs, f"there is no environment {index}"
        return self._emulators.render(index)

    def close(self) -> None:
        """Ends the threads that play."""
        self._emulators.close()

    def _to_device(self, array: Shaped[np.ndarray, " *shape"]) -> Shaped[Tensor, " *shape"]:
        # Emulators hand out fresh memory at every step, so sharing it is safe.
        return moved(torch.from_numpy(array), self.device)

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise RuntimeError(
                f"{self.spec.name} was built in another process, and its threads do not survive "
                "a fork: build the environment in the process that uses it."
            )


_SPARED = 2
"""Cores that emulators leave to the threads that launch the work of a GPU."""


def usual_threads(num_envs: int, cores: int, device: torch.device) -> int:
    """How many threads play in one pool, where nobody says.

    Every pool may use all cores, since two of them rarely play at once.  Next to a GPU, some are
    left to the thread that launches its work: it would wait for a core at every operation.  Then
    there are no more threads than it takes to play the pool in as many rounds.

    Args:
        num_envs: of the pool.
        cores: that this process may use.
        device: of the learner.
    """
    if device.type == "cpu":
        return min(num_envs, cores)
    most = max(1, min(num_envs, cores - _SPARED))
    rounds = -(-num_envs // most)
    return -(-num_envs // rounds)


def available_cores() -> int:
    """Cores that this process may use."""
    if sys.platform == "linux":
        # What a container or a scheduler grants, which may be less than the machine has.
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

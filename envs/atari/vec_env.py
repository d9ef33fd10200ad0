"""Atari games behind the contract, whichever emulators play them."""

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor

from envs.base import EnvSpec, Step, VecEnv, check_action, check_action_range
from gridworld.options import OptionError, at_least

# How an Atari game may be played, whoever plays it.


@dataclass(frozen=True)
class AtariOptions:
    """How an Atari game is played; the defaults are the Baselines protocol."""

    noop_max: int = 30
    """Fewer no-ops than this open an episode, at random; 1 for none (Mnih et al. 2015: 30)."""
    frame_skip: int = 4
    """Frames an action is repeated for; the last two are max-pooled (Mnih et al. 2015)."""
    frame_stack: int = 4
    """Most recent frames in one observation (Mnih et al. 2015)."""
    max_episode_steps: int = 27_000
    """Agent steps until truncation: 108,000 frames, half an hour (ale-py, DQN Zoo, Dopamine)."""
    episodic_life: bool = True
    """Whether a lost life terminates (Mnih et al. 2015) or only game over (Machado et al. 2018)."""
    sticky_actions: float = 0.0
    """Probability of repeating the last action instead, each frame (Machado et al. 2018: 0.25)."""
    full_action_space: bool = False
    """Whether all 18 actions are offered instead of the game's own (Machado et al. 2018: yes)."""
    fire_reset: bool = True
    """Whether an episode opens with FIRE, in games that have it (Baselines)."""
    backend: Literal["auto", "envpool", "ale"] = "auto"
    """Who plays: envpool, ale-py, or the first of them that is installed."""
    # Not compared: the same games are played whatever the number of threads and pools.
    num_threads: int = field(default=0, compare=False)
    """Threads that play in each pool; 0 for one per environment, at most the available cores."""
    pools: int = field(default=0, compare=False)
    """Parts that play in turn while others wait for their actions; 0 for two if that pays."""

    def __post_init__(self) -> None:
        if self.noop_max < 1:
            raise OptionError(
                "noop_max", f"{self.noop_max} would crash envpool; for no no-ops use 1."
            )
        at_least(self, 1, "frame_skip", "frame_stack", "max_episode_steps")
        if not 0 <= self.sticky_actions < 1:
            raise OptionError(
                "sticky_actions",
                f"is a probability below 1, not {self.sticky_actions}; use 0 for none.",
            )
        for option in ("num_threads", "pools"):
            if getattr(self, option) < 0:
                raise OptionError(
                    option,
                    f"must not be negative, but is {getattr(self, option)}; "
                    "use 0 to have it chosen.",
                )


@dataclass(frozen=True)
class Outcome:
    """One step of B games, on the host; the fields mean what those of `Step` mean."""

    observation: UInt8[np.ndarray, "B S H W"]
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

    @abstractmethod
    def reset(self) -> UInt8[np.ndarray, "B S H W"]:
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


class AtariVecEnv(VecEnv):
    """The games as tensors; between `send` and `receive` they play while the caller computes.

    Termination: under `episodic_life` a lost life terminates, as the learner is to
    see it, but `ended` waits for the game to be over or truncated.  Where the game
    is over on the very step of the time limit, the step terminates: there is no
    future to bootstrap from.

    The emulators cannot be saved: a resumed run starts fresh episodes.
    """

    def __init__(
        self, emulators: Emulators, spec: EnvSpec, device: torch.device, render: bool
    ) -> None:
        self.spec, self.device = spec, device
        self._emulators = emulators
        self._renders = render
        self._playing = False
        self._process = os.getpid()

    def reset(self) -> Shaped[Tensor, " B *shape"]:
        """Starts a new game everywhere."""
        self._check_process()
        assert not self._playing, "receive() the last step before a reset"
        return self._to_device(self._emulators.reset())

    def step(self, action: Int[Tensor, " B"]) -> Step:
        """Plays `frame_skip` frames in every game."""
        self.send(action)
        return self.receive()

    def send(self, action: Int[Tensor, " B"]) -> None:
        """Lets the games play `frame_skip` frames on threads of their own."""
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
        """Draws game `index`: the screen under envpool, the newest grey frame under ale-py."""
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
        tensor = torch.from_numpy(array)
        if self.device.type == "cuda":
            # Only pinned memory is copied without waiting; PyTorch keeps the buffer until then.
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise RuntimeError(
                f"{self.spec.name} was built in another process, and its threads do not survive "
                "a fork: build the environment in the process that uses it."
            )

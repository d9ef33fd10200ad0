"""The contract of auxiliary heads.

A head owns one auxiliary loss.  The agent is an argument, never a submodule, so a
head's parameters are its own alone, and the agent does not know which heads exist.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from agents.networks.actor_critic import ActorCritic
from agents.networks.torsos import Torso
from agents.runtime.random import Stream
from agents.teachers import Teacher
from agents.trajectory import AgentOutput, Targets, Trajectory
from envs.base import EnvSpec, VecEnv

__all__ = [
    "AuxiliaryHead",
    "HeadContext",
    "HeadLoss",
    "NamedModules",
    "Rehearsal",
    "Schedule",
    "Targets",
    "constant",
]


Rehearsal = Callable[[], AbstractContextManager[VecEnv]]
"""Opens environments like the student's, for what a head plays before training, and closes them."""


class NamedModules(nn.ModuleDict):
    """A `ModuleDict` that takes names of methods too: a head may be called `forward`.

    Its modules are found as items, never as attributes, so nothing is hidden.
    """

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """Adds or replaces a module."""
        assert module is not None
        self._modules[name] = module


@dataclass(frozen=True)
class HeadLoss:
    """A head's loss per step (or in the head's own shape), before masking and averaging."""

    loss: Float[Tensor, " *shape"]
    valid: Bool[Tensor, " *shape"]
    """Entries that count: a valid step whose targets lie in the same episode."""
    metrics: Mapping[str, Tensor] = field(default_factory=dict)
    """Scalars for the log, on the device."""


@dataclass(frozen=True)
class Schedule:
    """A number that moves from `start` to `end` over the first `steps` agent steps."""

    start: float
    end: float
    steps: int
    curve: Literal["linear", "exponential"] = "linear"
    """By equal differences, or by equal factors (between numbers above 0)."""

    def __call__(self, step: int) -> float:
        """The value at an agent step."""
        if self.steps <= 0:
            return self.end
        progress = min(1.0, step / self.steps)
        if self.curve == "exponential":
            return self.start * math.pow(self.end / self.start, progress)
        return self.start + (self.end - self.start) * progress


def constant(value: float) -> Schedule:
    """A number that stays as it is."""
    return Schedule(value, value, 0)


class AuxiliaryHead(nn.Module, ABC):
    """One auxiliary loss on the learner's own trajectories."""

    trains: tuple[str, ...]
    """Parts of the agent that the loss reaches: of `torso`, `core`, `policy`, `value`."""
    non_negative: bool
    """Whether the loss is never below zero (gates that take ratios of losses ask)."""
    coefficient: Schedule
    """Weight of the loss, by agent steps."""
    capturable: bool = False
    """Whether `forward` and `after_update` may be captured in CUDA graphs: the same operations at
    every call, no host number that changes, no random numbers, and no memory outside of buffers.
    All of these are allowed in `prepare`, which is never captured."""
    bypasses_features: bool = False
    """Whether it encodes observations itself (replayed, augmented) instead of reading the agent's
    output: a gate that weighs gradients at the features does not reach it."""
    remark: str = ""
    """A sentence for the user on what `before_training` found."""

    @torch.no_grad()
    def prepare(self, agent: ActorCritic, trajectory: Trajectory) -> Targets:
        """Computes, once per trajectory and without gradient, what the loss compares with."""
        return Targets()

    @abstractmethod
    def forward(
        self, agent: ActorCritic, output: AgentOutput, trajectory: Trajectory, targets: Targets
    ) -> HeadLoss:
        """Computes the loss per step.

        Args:
            agent: whose parts `trains` names.
            output: of the agent, at the T + 1 observations of the trajectory.
            trajectory: a minibatch.
            targets: what `prepare` computed, restricted to the minibatch.
        """

    def before_training(self, rehearsal: Rehearsal, generator: torch.Generator) -> None:
        """Plays once before a run begins: what heads may learn of their helpers there.

        Args:
            rehearsal: opens other environments than the student's, whose episodes are therefore
                those that it has without the head.
            generator: of actions, on the environments' device.
        """

    def after_update(self, agent: ActorCritic) -> None:
        """Follows the agent after an optimizer step (momentum copies)."""

    def picture(
        self, agent: ActorCritic, trajectory: Trajectory
    ) -> UInt8[Tensor, "height width 3"] | None:
        """Draws what the head makes of a trajectory, in RGB; none where there is nothing to see."""
        return None

    @property
    def held_bytes(self) -> int:
        """Memory held from one update to the next, but for what is trained: copies, replay."""
        return sum(buffer.nbytes for buffer in self.buffers())


def nameless() -> tuple[str, ...]:
    """The names of actions that have none."""
    return ()


@dataclass(frozen=True)
class HeadContext:
    """What a head may ask for when it is built."""

    spec: EnvSpec
    torso: Torso
    """The agent's: to be copied, never kept."""
    num_features: int
    """Width of `AgentOutput.features`, after the core; the torso has its own `num_features`."""
    device: torch.device
    load_teacher: Callable[[str], Teacher]
    """From a path (empty: the teacher shipped for the environment) to a `Teacher`."""
    stream: Callable[[str], Stream]
    """From a name of the head's choice to random numbers that are its alone."""
    discount: float
    """Gamma of the main loss, per agent step."""
    unroll_length: int
    """T, agent steps of a trajectory."""
    action_names: Callable[[], tuple[str, ...]] = nameless
    """What the environment's actions do, as LEFT; empty where it does not say."""

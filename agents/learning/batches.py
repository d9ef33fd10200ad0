"""What one update learns from: a trajectory or a part of it, and numbers that move during a run."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from agents.heads import AuxiliaryHead, Schedule
from agents.runtime.graphs import Number, Scalar
from agents.trajectory import Targets, Trajectory, shuffled_slices


@dataclass(frozen=True)
class Batch:
    """A trajectory, or some of its environments, with all targets."""

    trajectory: Trajectory
    main: Targets
    heads: Sequence[Targets]

    def select(self, environments: Int[Tensor, " n"] | None) -> "Batch":
        """Takes some environments with all their steps, a minibatch; None for all."""
        if environments is None:
            return self
        return Batch(
            self.trajectory.select(environments),
            self.main.select(environments),
            [targets.select(environments) for targets in self.heads],
        )


def dealt(
    trajectory: Trajectory, count: int, shuffling: torch.Generator
) -> Sequence[Int[Tensor, " n"] | None]:
    """Deals out the environments to minibatches: whole columns, never slices of time.

    Args:
        trajectory: whose environments.
        count: of minibatches; one is the whole, in its own order.
        shuffling: random numbers, on the host.

    Returns:
        The environments of each minibatch; None for all.
    """
    action = trajectory.action
    if count == 1:
        return [None]
    return shuffled_slices(action.shape[1], count, shuffling, action.device)


def unsound(trajectory: Trajectory) -> Tensor:
    """1 if an observation, or a reward of a valid step, is not finite; decided on the device."""
    sound = torch.where(trajectory.valid, trajectory.reward, 0.0).isfinite().all()
    if trajectory.observation.is_floating_point():
        sound = sound & trajectory.observation.isfinite().all()
    return 1.0 - sound.float()


@dataclass(frozen=True)
class Scheduled:
    """The numbers of an update that move during a run; tensors where updates are captured."""

    learning_rate: Scalar
    progress: Scalar
    """How much of the run is over, from 0 to 1."""
    coefficients: Sequence[Scalar]
    """Of the heads, in their order."""


class Schedules:
    """What the learning rate, the progress and the heads' coefficients are at a step."""

    def __init__(self, learning_rate: Schedule, heads: Sequence[AuxiliaryHead]) -> None:
        self.learning_rate = learning_rate
        self._heads = tuple(heads)
        self._numbers: list[Number] = []

    def capture(self, device: torch.device) -> None:
        """From now on gives tensors that keep their place, for CUDA graphs."""
        # Adam reads its rate in single precision on a GPU; on the CPU, and wherever numbers are
        # computed with before they meet a tensor, Python's own precision changes nothing.
        rate = torch.float64 if device.type == "cpu" else torch.float32
        kinds = [rate, torch.float64, *[torch.float32] * len(self._heads)]
        self._numbers = [Number(device, kind) for kind in kinds]

    def at(self, step: int) -> Scheduled:
        """Returns the numbers of the update at an agent step."""
        exact = [self.learning_rate(step), min(1.0, step / self.learning_rate.steps)]
        exact += [head.coefficient(step) for head in self._heads]
        found: Sequence[Scalar] = exact
        if self._numbers:
            found = [n.set(value) for n, value in zip(self._numbers, exact, strict=True)]
        return Scheduled(found[0], found[1], found[2:])

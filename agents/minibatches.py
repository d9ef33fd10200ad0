"""What one update learns from: a whole trajectory, or some of its environments."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.types import Targets, Trajectory


@dataclass(frozen=True)
class Batch:
    """A trajectory, or some of its environments, with all targets."""

    trajectory: Trajectory
    main: Targets
    heads: Sequence[Targets]

    def select(self, environments: Tensor) -> "Batch":
        """A minibatch."""
        return Batch(
            self.trajectory.select(environments),
            self.main.select(environments),
            [targets.select(environments) for targets in self.heads],
        )


def minibatches(whole: Batch, count: int, shuffling: torch.Generator) -> Iterator[Batch]:
    """Shuffles the environments and deals them out; whole columns, never slices of time.

    Args:
        whole: a trajectory's batch.
        count: how many; one is the whole, in its own order.
        shuffling: random numbers, on the host.
    """
    if count == 1:
        yield whole
        return
    num_envs = whole.trajectory.action.shape[1]
    order = torch.randperm(num_envs, generator=shuffling)
    order = order.to(whole.trajectory.action.device, non_blocking=True)
    for environments in order.chunk(count):
        yield whole.select(environments)

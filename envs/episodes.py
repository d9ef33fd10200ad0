"""Returns and lengths of finished episodes, kept on the device until asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from math import nan

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from envs.base import Step


@dataclass(frozen=True)
class EpisodeSummary:
    """What the finished episodes were like, in plain numbers."""

    finished: int
    """Episodes finished since the last `drain`."""
    averaged: int
    """Most recent episodes that the means are taken over."""
    mean_return: float
    """Undiscounted sum of raw rewards; NaN before the first episode has finished."""
    mean_length: float
    """Agent steps, autoreset steps not counted; NaN before the first episode has finished."""


class Episodes(nn.Module):
    """Follows B environments and remembers their latest finished episodes.

    A return runs until the step *ended*: a game of several lives is one episode, even
    where each lost life terminates for the learner.  `update` neither waits for the
    device nor changes a shape, so it may run at every step and be captured in a graph.

    Finished episodes go into a ring of K slots.  Every environment writes at every
    step, and those whose episode goes on write to one more slot that nobody reads.
    A module for its buffers only: they move, save and load by the usual methods.
    """

    running_return: Float[Tensor, " B"]
    running_length: Int[Tensor, " B"]
    ring_return: Float[Tensor, " K+1"]
    ring_length: Float[Tensor, " K+1"]
    finished: Int[Tensor, ""]
    drained: Int[Tensor, ""]

    def __init__(self, num_envs: int, device: torch.device, window: int = 100) -> None:
        """Starts without any finished episode.

        Args:
            num_envs: B.
            device: that of the environments.
            window: most recent episodes that a mean is taken over.
        """
        super().__init__()
        self.window = window
        # All environments may finish at once, each in need of a slot of its own.
        self.capacity = max(window, num_envs)
        slots = self.capacity + 1
        self.register_buffer("running_return", torch.zeros(num_envs, device=device))
        self.register_buffer(
            "running_length", torch.zeros(num_envs, dtype=torch.int64, device=device)
        )
        self.register_buffer("ring_return", torch.zeros(slots, device=device))
        self.register_buffer("ring_length", torch.zeros(slots, device=device))
        self.register_buffer("finished", torch.zeros((), dtype=torch.int64, device=device))
        self.register_buffer("drained", torch.zeros((), dtype=torch.int64, device=device))

    def update(self, step: Step) -> None:
        """Adds one step of every environment."""
        self.running_return += step.reward
        self.running_length += step.valid
        count = step.ended.cumsum(0)  # [B]
        slot = (self.finished + count - 1) % self.capacity
        slot = torch.where(step.ended, slot, self.capacity)
        self.ring_return[slot] = self.running_return
        self.ring_length[slot] = self.running_length.float()
        self.finished += count[-1]
        self.running_return.masked_fill_(step.ended, 0)
        self.running_length.masked_fill_(step.ended, 0)

    def restart(self) -> None:
        """Forgets the episodes under way, as after `VecEnv.reset`; finished ones stay."""
        self.running_return.zero_()
        self.running_length.zero_()

    def sums(self) -> Float[Tensor, "4"]:
        """Episodes since the last drain, episodes averaged, sums of their returns and lengths.

        They may be added up over several trackers before `summary_of` reads them.
        """
        age = (self.finished - 1 - torch.arange(self.capacity, device=self.finished.device)) % (
            self.capacity
        )
        averaged = self.finished.clamp(max=self.window)
        counted = age < averaged
        numbers = (
            self.finished - self.drained,
            averaged,
            torch.where(counted, self.ring_return[:-1], 0).sum(),
            torch.where(counted, self.ring_length[:-1], 0).sum(),
        )
        return torch.stack([number.double() for number in numbers])

    def summary(self) -> EpisodeSummary:
        """Averages the latest `window` episodes; waits for the device once."""
        return summary_of(self.sums())

    def drain(self, add_up: Callable[[Tensor], Tensor] = torch.detach) -> EpisodeSummary:
        """Gives the summary, and starts to count `finished` anew.

        Args:
            add_up: applied to the `sums` before they are read, where there are several trackers.
        """
        sums = add_up(self.sums())
        self.drained.copy_(self.finished)
        return summary_of(sums)

    def latest(self) -> tuple[Float[Tensor, " episodes"], Int[Tensor, " episodes"]]:
        """Copies the latest returns and lengths, at most `window`, to the host, oldest first."""
        finished = int(self.finished)
        order = torch.arange(max(0, finished - self.window), finished) % self.capacity
        return self.ring_return.cpu()[order], self.ring_length.cpu()[order].long()


def summary_of(sums: Float[Tensor, "4"]) -> EpisodeSummary:
    """Reads what `Episodes.sums` gave."""
    finished, averaged, total_return, total_length = sums.tolist()
    if averaged == 0:
        return EpisodeSummary(int(finished), 0, nan, nan)
    return EpisodeSummary(
        int(finished), int(averaged), total_return / averaged, total_length / averaged
    )

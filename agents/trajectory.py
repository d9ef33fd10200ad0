"""The data that passes between the modules of `agents`.

Time leads, batch follows: `T` agent steps in `B` environments.  At time t the
agent sees `observation[t]` and takes `action[t]`; `reward[t]`, `terminated[t]`
and `truncated[t]` arrive with `observation[t + 1]`.  Hence N = T + 1 observations.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor


@dataclass(frozen=True)
class Trajectory:
    """T agent steps of B environments, as `collect` recorded them."""

    action: Int[Tensor, "T B"]
    """What was sent; discarded by the environment where `valid` is False."""
    reward: Float[Tensor, "T B"]
    """Rewards after the transform that the environment's spec asks for."""
    terminated: Bool[Tensor, "T B"]
    """The future is worth nothing: zeroes the bootstrap."""
    truncated: Bool[Tensor, "T B"]
    """Cut by a time limit: bootstraps from `observation[t + 1]`."""
    valid: Bool[Tensor, "T B"]
    """False at autoreset steps, which enter no loss."""
    log_probability: Float[Tensor, "T B"]
    """Log-probability of `action` under the policy that took it (the behaviour policy)."""
    observation: Shaped[Tensor, " T+1 B *shape"]
    state: Int[Tensor, "T+1 B"] | None = None
    """Flat index of a gridworld's cell; for teachers only."""
    core_state: Float[Tensor, "B F"] | None = None
    """State of the recurrent core before `observation[0]`, where there is a core."""
    episode_start: Bool[Tensor, " B"] | None = None
    """Whether `observation[0]` is the first of an episode; None where that is not known."""
    value: Float[Tensor, "T+1 B"] | None = None
    """What the policy that acted expected of each observation, for algorithms that ask."""

    @property
    def reset(self) -> Bool[Tensor, "N B"]:
        """Which observations open an episode: a recurrent state is zeroed before they are read.

        Those after an invalid step do, not those after an end: the true last observation
        is read with the episode's own state.
        """
        episode_start = (
            torch.zeros_like(self.valid[0]) if self.episode_start is None else self.episode_start
        )
        return torch.cat([episode_start[None], ~self.valid])

    def select(self, environments: Int[Tensor, " B2"]) -> "Trajectory":
        """The whole columns of some environments: a minibatch."""
        # Copies whole rows, where indexing goes entry by entry.
        return self._with(lambda column, axis: column.index_select(axis, environments))

    def neighbours(self, first: int, count: int) -> "Trajectory":
        """The columns of neighbouring environments, in the same memory.

        Args:
            first: the first of them.
            count: how many.
        """
        return self._with(lambda column, axis: column.narrow(axis, first, count))

    def _with(self, change: Callable[[Tensor, int], Tensor]) -> "Trajectory":
        """Changes all columns; the function takes a tensor and its axis of environments."""
        batch_leads = {"core_state", "episode_start"}  # no time
        columns = {
            field.name: change(column, 0 if field.name in batch_leads else 1)
            for field in fields(self)
            if (column := getattr(self, field.name)) is not None
        }
        return replace(self, **columns)


@dataclass(frozen=True)
class Targets:
    """What a loss compares with, prepared once per trajectory and without gradient.

    Each loss has its own kind.  A field is a tensor `[time, B, ...]` or not a tensor;
    a kind with other fields overrides `select`.
    """

    def select(self, environments: Int[Tensor, " B2"]) -> "Targets":
        """The targets of a minibatch, which is a slice of environments."""
        columns = {
            field.name: column.index_select(1, environments)
            for field in fields(self)
            if isinstance(column := getattr(self, field.name), Tensor)
        }
        return replace(self, **columns)


@dataclass(frozen=True)
class AgentOutput:
    """What an agent computes over N observations of B environments."""

    spatial: Float[Tensor, "N B C H W"] | None
    """The torso's last feature map, where it has one."""
    torso: Float[Tensor, "N B F"]
    """The torso's features."""
    features: Float[Tensor, "N B F2"]
    """Features after the recurrent core; the torso's features where there is none."""
    logits: Float[Tensor, "N B A"]
    """The policy's unnormalised log-probabilities."""
    value: Float[Tensor, "N B"]
    """Expected discounted return from each observation."""
    core_state: Float[Tensor, "B F3"] | None = None
    """State of the recurrent core after the last observation, where there is a core."""
    value_unit: Float[Tensor, ""] = torch.ones(())
    """Standard deviation of returns, in units of which values are learnt; 1 where they are not."""


def shuffled_slices(
    num_envs: int, count: int, shuffling: torch.Generator, device: torch.device
) -> Sequence[Int[Tensor, " n"]]:
    """Deals environments out at random to slices whose sizes differ by one at most.

    Args:
        num_envs: how many there are.
        count: of slices; no more than there are environments are made.
        shuffling: random numbers, on the host.
        device: where the slices are used.

    Returns:
        Indices of environments, each in one slice.
    """
    order = torch.randperm(num_envs, generator=shuffling).to(device, non_blocking=True)
    return order.tensor_split(min(count, num_envs))

"""The recurrent core between torso and policy: memory for worlds that are seen in part.

A state is zeroed before an observation that opens an episode, never before the true
last one (see `Trajectory.reset`), and carried from one trajectory to the next.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from agents.networks.torsos import orthogonal
from gridworld.options import Registry, at_least


class Core(nn.Module, ABC):
    """Carries a state through time."""

    num_features: int
    """Width of what it puts out."""
    state_size: int
    """Width of the state of one environment."""

    @abstractmethod
    def forward(
        self,
        features: Float[Tensor, "N B F"],
        state: Float[Tensor, "B F2"],
        reset: Bool[Tensor, "N B"],
        action: Int[Tensor, "T B"] | None = None,
    ) -> tuple[Float[Tensor, "N B F3"], Float[Tensor, "B F2"]]:
        """Reads N observations' features in turn.

        Args:
            features: the torso's.
            state: before the first of them.
            reset: before which of them the state is zeroed.
            action: what was done at each of them, the last of them (or all) excepted where
                that is not known yet.

        Returns:
            What the policy and the value see, and the state after the last observation and,
            if it was given, what was done at it.
        """

    @abstractmethod
    def acted(
        self, state: Float[Tensor, "B F2"], action: Int[Tensor, " B"]
    ) -> Float[Tensor, "B F2"]:
        """Notes in the state after an observation what was done at it."""


@dataclass(frozen=True)
class FeedForwardConfig:
    """No memory: policy and value see the torso's features."""

    def build(self, num_features: int, num_actions: int = 0) -> None:
        """Makes nothing."""
        return


@dataclass(frozen=True)
class GRUConfig:
    """A gated recurrent unit (Cho et al. 2014)."""

    width: int = 256
    """Units, and features that it puts out (256 in IMPALA's LSTM, Espeholt et al. 2018)."""
    last_action: bool = True
    """Whether it reads what was done last (as IMPALA's LSTM does)."""

    def __post_init__(self) -> None:
        at_least(self, 1, "width")

    def build(self, num_features: int, num_actions: int = 0) -> "GRU":
        """Makes the core on top of a torso of so many features.

        Args:
            num_features: of the torso.
            num_actions: to tell apart; 0 where there are none to be read.
        """
        return GRU(num_features, self.width, num_actions if self.last_action else 0)


class GRU(Core):
    """h' = (1 - z) n + z h with gates r, z and candidate n (https://arxiv.org/abs/1406.1078).

    As in `torch.nn.GRU`, whose weights it has; that one cannot reset its state on the way.
    The input is the features and the last action as a one-hot vector, zeros at an episode's
    beginning; where it is the trajectory before that holds it, it is part of the state.
    """

    def __init__(self, inputs: int, width: int, num_actions: int = 0) -> None:
        super().__init__()
        self.num_features = width
        self.state_size = width + num_actions
        self._num_actions = num_actions
        # A cell for its parameters alone.
        self.cell = nn.GRUCell(inputs + num_actions, width)
        orthogonal(self.cell, gain=1.0)

    def forward(
        self,
        features: Float[Tensor, "N B F"],
        state: Float[Tensor, "B F2"],
        reset: Bool[Tensor, "N B"],
        action: Int[Tensor, "T B"] | None = None,
    ) -> tuple[Float[Tensor, "N B F3"], Float[Tensor, "B F2"]]:
        """Unrolls; all products with the inputs are taken at once, as they need no state."""
        cell = self.cell
        hidden, before = self._parted(state)
        done = self._done(before, len(features), action)  # [N + 1, B, A]
        episode_start = reset.unsqueeze(-1)
        # Not by a product, so that a state that is not finite ends with its episode.
        seen = torch.cat([features, torch.where(episode_start, 0.0, done[:-1])], -1)
        inputs = F.linear(seen, cell.weight_ih, cell.bias_ih)  # [N, B, 3 F3]
        states = []
        for step, forgets in zip(inputs.unbind(), episode_start.unbind(), strict=True):
            hidden = torch.where(forgets, 0.0, hidden)
            reset_in, update_in, new_in = step.chunk(3, -1)
            recurrent = F.linear(hidden, cell.weight_hh, cell.bias_hh)
            reset_state, update_state, new_state = recurrent.chunk(3, -1)
            reset_gate = torch.sigmoid(reset_in + reset_state)
            update_gate = torch.sigmoid(update_in + update_state)
            candidate = torch.tanh(new_in + reset_gate * new_state)
            hidden = torch.lerp(candidate, hidden, update_gate)
            states.append(hidden)
        return torch.stack(states), torch.cat([hidden, done[-1]], -1)

    def acted(
        self, state: Float[Tensor, "B F2"], action: Int[Tensor, " B"]
    ) -> Float[Tensor, "B F2"]:
        """Notes in the state after an observation what was done at it."""
        hidden, _ = self._parted(state)
        return torch.cat([hidden, self._one_hot(action)], -1)

    def _parted(
        self, state: Float[Tensor, "B F2"]
    ) -> tuple[Float[Tensor, "B F3"], Float[Tensor, "B A"]]:
        hidden, action = state.split([self.num_features, self._num_actions], -1)
        return hidden, action

    def _done(
        self,
        before: Float[Tensor, "B A"],
        length: int,
        action: Int[Tensor, "T B"] | None,
    ) -> Float[Tensor, "{length+1} B A"]:
        """What had been done before each observation and after the last; zeros if not known."""
        done = before.new_zeros(length + 1, *before.shape)
        done[0] = before
        if action is not None:
            done[1 : len(action) + 1] = self._one_hot(action)
        return done

    def _one_hot(self, action: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch A"]:
        known = torch.arange(self._num_actions, device=action.device)
        return (action.unsqueeze(-1) == known).float()


@dataclass(frozen=True)
class Cores:
    """The cores by their command-line names."""

    none: FeedForwardConfig = FeedForwardConfig()
    gru: GRUConfig = GRUConfig()


_REGISTRY = Registry("core", Cores())
register, registered = _REGISTRY.register, _REGISTRY.registered

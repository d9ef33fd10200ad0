"""The recurrent core between torso and policy: memory for worlds that are seen in part.

A state is zeroed before an observation that opens an episode, never before the true
last one (see `Trajectory.reset`), and carried from one trajectory to the next.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from agents.torsos.base import orthogonal


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
    ) -> tuple[Float[Tensor, "N B F3"], Float[Tensor, "B F2"]]:
        """Reads N observations' features in turn.

        Args:
            features: the torso's.
            state: before the first of them.
            reset: before which of them the state is zeroed.

        Returns:
            What the policy and the value see, and the state after the last observation.
        """


@dataclass(frozen=True)
class FeedForwardConfig:
    """No memory: policy and value see the torso's features."""

    def build(self, num_features: int) -> None:
        """Makes nothing."""
        return


@dataclass(frozen=True)
class GRUConfig:
    """A gated recurrent unit (Cho et al. 2014)."""

    width: int = 256
    """Units, and features that it puts out (256 in IMPALA's LSTM, Espeholt et al. 2018)."""

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"--core.gru.width must be at least 1, not {self.width}.")

    def build(self, num_features: int) -> "GRU":
        """Makes the core on top of a torso of so many features."""
        return GRU(num_features, self.width)


class GRU(Core):
    """h' = (1 - z) n + z h with gates r, z and candidate n (https://arxiv.org/abs/1406.1078).

    As in `torch.nn.GRU`, whose weights it has; that one cannot reset its state on the way.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.num_features = self.state_size = width
        # A cell for its parameters alone.
        self.cell = nn.GRUCell(inputs, width)
        orthogonal(self.cell, gain=1.0)

    def forward(
        self,
        features: Float[Tensor, "N B F"],
        state: Float[Tensor, "B F2"],
        reset: Bool[Tensor, "N B"],
    ) -> tuple[Float[Tensor, "N B F3"], Float[Tensor, "B F2"]]:
        """Unrolls; all products with the inputs are taken at once, as they need no state."""
        cell = self.cell
        inputs = F.linear(features, cell.weight_ih, cell.bias_ih)  # [N, B, 3 F3]
        states = []
        for step, opens in zip(inputs.unbind(), reset.unsqueeze(-1).unbind(), strict=True):
            # Not by a product, so that a state that is not finite ends with its episode.
            state = torch.where(opens, 0.0, state)
            reset_in, update_in, new_in = step.chunk(3, -1)
            recurrent = F.linear(state, cell.weight_hh, cell.bias_hh)
            reset_state, update_state, new_state = recurrent.chunk(3, -1)
            reset_gate = torch.sigmoid(reset_in + reset_state)
            update_gate = torch.sigmoid(update_in + update_state)
            candidate = torch.tanh(new_in + reset_gate * new_state)
            state = torch.lerp(candidate, state, update_gate)
            states.append(state)
        return torch.stack(states), state


@dataclass(frozen=True)
class Cores:
    """The cores by their command-line names."""

    none: FeedForwardConfig = FeedForwardConfig()
    gru: GRUConfig = GRUConfig()

"""A teacher that answers late."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from agents.heads.components.views import at_steps

LONGEST = 32
"""Agent steps; two seconds of an Atari game."""


class Delay(nn.Module):
    """Says at every step what the teacher said some steps earlier in the same episode.

    In the first steps of an episode it says what the teacher said of the first observation.
    Answers wait rather than observations: they are small, and a teacher that remembers, or that
    looks states up in a table, reads every step in order.  A teacher without memory says the same
    as if it were shown observations that are some steps old.
    """

    past: Float[Tensor, "delay B A"]
    """The last answers before the next trajectory."""
    age: Int[Tensor, " B"]
    """Steps from the first observation of each episode to the next trajectory's first one, up to
    the delay."""

    def __init__(self, steps: int, num_envs: int, num_actions: int) -> None:
        """Waits for the first answers.

        Args:
            steps: of the delay, 1 or more.
            num_envs: B.
            num_actions: A.
        """
        super().__init__()
        self._steps = steps
        self.register_buffer("past", torch.zeros(steps, num_envs, num_actions))
        self.register_buffer("age", torch.zeros(num_envs, dtype=torch.int64))

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *others: Any) -> None:
        """Loads what was kept for other environments, too: new episodes begin."""
        for name, own in self.named_buffers():
            saved = state.get(prefix + name)
            if saved is not None and saved.shape != own.shape:
                state[prefix + name] = torch.zeros_like(own)
        super()._load_from_state_dict(state, prefix, *others)

    def forward(
        self, logits: Float[Tensor, "T B A"], reset: Bool[Tensor, "N B"]
    ) -> Float[Tensor, "T B A"]:
        """Delays the answers of a trajectory, and keeps its last ones for the next.

        Args:
            logits: what the teacher says.
            reset: which of the N = T + 1 observations open an episode.
        """
        time = torch.arange(len(reset), device=reset.device).unsqueeze(-1)
        # When each observation's episode began; below 0 in an earlier trajectory.
        began = torch.where(reset, time, -self.age).cummax(0).values
        late = (time - began).clamp(max=self._steps)
        known = torch.cat([self.past, logits])
        self.past.copy_(known[-self._steps :])
        self.age.copy_(late[-1])
        return at_steps(known, (self._steps + time - late)[:-1])

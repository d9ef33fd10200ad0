"""What the bytes of a cell mean: two small tables, which always stay in the cache."""

from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from gridworld.config import NUM_ACTIONS, WorldConfig

WAY_SHIFT = 2
"""Which ways are free is kept times 4: an action in the two lowest bits makes it an entry."""


@dataclass(frozen=True)
class Legend:
    """The same for all worlds of a family."""

    moves: Int64[Tensor, "64"]
    """By how many cells one moves, by free ways and action: 0 where the way is not free."""
    rewards: Float32[Tensor, " kinds"]
    """Of each step that leads to (or stays on) a cell, by its kind."""

    @staticmethod
    def of(config: WorldConfig, device: torch.device | str) -> "Legend":
        """Tabulates the settings."""
        action = torch.arange(NUM_ACTIONS)
        ways = torch.arange(2**NUM_ACTIONS)[:, None]
        moves = (ways >> action & 1) * torch.tensor(config.offsets)
        rewards = torch.tensor(config.kind_rewards, dtype=torch.float32)
        return Legend(moves.view(-1).to(device), rewards.to(device))

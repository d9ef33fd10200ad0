"""Tables of moves, rewards and views.

`Legend` holds what all worlds of a family share; the functions derive from the kinds of a
world's cells which moves are free, what is seen from each cell, and which cells look alike.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float32, Int, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from gridworld.config import NUM_ACTIONS, WALL, WorldConfig

WAY_SHIFT = 2
"""Which ways are free is kept times 4: an action in the two lowest bits makes it an entry."""


@dataclass(frozen=True)
class Legend:
    """What kinds and free ways mean: two small tables, the same for all worlds of a family."""

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


_RECORD = 16
"""A record is a multiple of so many bytes, so that few lie across two lines of the cache."""

_BITS_OF_A_KEY = 62
"""A key of several symbols stays below 2**62, within int64."""


def records(
    window: UInt8[Tensor, "W cells view view"], ways: UInt8[Tensor, "W cells"]
) -> UInt8[Tensor, "W cells size"]:
    """Puts side by side what a step or a look reads of a cell: its window, then its free ways.

    Thousands of episodes in as many worlds wait for memory, not for arithmetic: with one
    record per cell they wait once.
    """
    record = torch.cat([window.flatten(2), ways[:, :, None]], dim=2)
    return F.pad(record, (0, -record.shape[2] % _RECORD))


def free_ways(config: WorldConfig, wall: Bool[Tensor, "W cells"]) -> UInt8[Tensor, "W cells"]:
    """Tabulates which actions move: a bit each from bit `WAY_SHIFT` on, none within a wall."""
    ways = torch.zeros_like(wall, dtype=torch.uint8)
    for action, offset in enumerate(config.offsets):
        # Wraps around at the border alone, which is wall.
        free = ~(wall | wall.roll(-offset, dims=1))
        ways |= free.to(torch.uint8) << (action + WAY_SHIFT)
    return ways


def windows(
    config: WorldConfig, kind: UInt8[Tensor, "W cells"]
) -> UInt8[Tensor, "W cells view view"]:
    """Tabulates the square of kinds around each cell; outside of the world is wall."""
    radius, view = config.view_radius, config.view_size
    grid = kind.view(-1, config.height, config.width)
    grid = F.pad(grid, (radius, radius, radius, radius), value=WALL)
    square = grid.unfold(1, view, 1).unfold(2, view, 1)  # [W, height, width, view, view]
    return square.flatten(1, 2).contiguous()


def observation_ids(
    window: UInt8[Tensor, "W cells view view"], wall: Bool[Tensor, "W cells"], num_kinds: int
) -> Int[Tensor, "W cells"]:
    """Numbers the different windows of each world from 0, in the order of their symbols.

    Cells of one world that look alike share a number.  Walls, where nobody ever
    stands, have number 0.
    """
    num_worlds, num_cells = wall.shape
    symbols = window.flatten(2)
    # Where nobody stands nothing is seen: such cells take on the look of one where one can.
    somewhere = wall.to(torch.uint8).argmin(1)
    seen = symbols[torch.arange(num_worlds, device=wall.device), somewhere]
    symbols = torch.where(wall[:, :, None], seen[:, None], symbols)

    # A few symbols at a time: each round ranks (rank so far, next symbols), which is exact.
    rank = torch.arange(num_worlds, device=wall.device)[:, None].expand(num_worlds, num_cells)
    position, num_symbols = 0, symbols.shape[2]
    while position < num_symbols:
        room = _BITS_OF_A_KEY - math.ceil(math.log2(wall.numel() + 1))
        count = min(int(room / math.log2(num_kinds)), num_symbols - position)
        key = rank
        for symbol in symbols[:, :, position : position + count].unbind(-1):
            key = key * num_kinds + symbol
        rank = key.unique(return_inverse=True)[1]
        position += count
    # Worlds lead, so each world's ranks are consecutive.
    rank = rank - rank.amin(1, keepdim=True)
    return torch.where(wall, 0, rank)

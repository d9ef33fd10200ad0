"""The meaning of bytes, entry by entry."""

import torch

from gridworld import WorldConfig
from gridworld.tables import WAY_SHIFT, Legend


def test_a_free_way_moves_and_any_other_stays():
    moves = Legend.of(WorldConfig(height=5, width=6), "cpu").moves.tolist()
    # Up and down are a row of 6 cells, right and left one cell.
    offsets = [-6, 1, 6, -1]
    for free in range(16):
        for action in range(4):
            expected = offsets[action] if free & 2**action else 0
            assert moves[(free << WAY_SHIFT) | action] == expected
    assert len(moves) == 64


def test_rewards_are_those_of_the_settings():
    config = WorldConfig(penalty=-0.3, terminal_rewards=(7.0, -2.5))
    # Empty, wall, penalty, and the terminal ones; float32, as the tables of a network.
    expected = torch.tensor([0.0, 0.0, -0.3, 7.0, -2.5])
    assert torch.equal(Legend.of(config, "cpu").rewards, expected)

"""Tables against the cells they describe."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gridworld import WALL, WorldConfig, parse
from gridworld.tables import free_ways, windows


@settings(deadline=None, max_examples=8)
@given(height=st.integers(3, 7), width=st.integers(4, 8), seed=st.integers(0, 99))
def test_moves_are_those_of_the_slow_gridworld(build_worlds, slow, height, width, seed):
    worlds = build_worlds(2, seed, height=height, width=width, terminal_probability=0.12)
    for kinds, moves in zip(worlds.kind.tolist(), worlds.move.tolist(), strict=True):
        for cell, kind in enumerate(kinds):
            expected = [0] * 4
            if kind != WALL:
                expected = [slow.move(worlds.config, kinds, cell, a) - cell for a in range(4)]
            assert moves[cell] == expected


@settings(deadline=None, max_examples=8)
@given(
    radius=st.integers(0, 4),
    seed=st.integers(0, 99),
    rewards=st.sampled_from([(1.0,), (10.0, 5.0, -5.0, -10.0), tuple(range(1, 26))]),
)
def test_cells_share_a_number_exactly_if_they_look_alike(build_worlds, radius, seed, rewards):
    worlds = build_worlds(
        3,
        seed,
        view_radius=radius,
        terminal_rewards=tuple(map(float, rewards)),
        terminal_probability=0.3 / len(rewards),
    )
    for number in range(3):
        windows = [tuple(w) for w in worlds.window[number].flatten(1).tolist()]
        walls = worlds.wall[number].tolist()
        ids = worlds.observation[number].tolist()
        # Numbered from 0 in the order of the symbols, row by row.
        order = sorted({w for w, wall in zip(windows, walls, strict=True) if not wall})
        for window, wall, given_id in zip(windows, walls, ids, strict=True):
            assert given_id == (0 if wall else order.index(window))
        assert int(worlds.num_observations[number]) == len(order)


def test_a_corridor_by_hand():
    # Seen from its three cells, one cell far: (#S.), (S..) = (...), (..A): the start is empty.
    config = WorldConfig(height=3, width=7)
    worlds = parse(config, ["#######\n#S...A#\n#######"])
    wall, seen = [1, 1, 1], worlds.window[0]
    assert seen[8].tolist() == [wall, [1, 0, 0], wall]
    assert seen[9].tolist() == seen[10].tolist() == [wall, [0, 0, 0], wall]
    assert seen[11].tolist() == [wall, [0, 0, 3], wall]
    assert seen[12].tolist() == [wall, [0, 3, 1], wall]
    # In the order of their symbols: 000, 003, 031, 100.
    assert worlds.observation[0, 8:13].tolist() == [3, 0, 0, 1, 2]
    assert worlds.num_observations.tolist() == [4]


@pytest.mark.parametrize(("radius", "size"), [(0, 16), (1, 16), (2, 32), (5, 128)])
def test_a_record_holds_the_window_and_the_free_ways(build_worlds, radius, size):
    worlds = build_worlds(2, view_radius=radius)
    view = 2 * radius + 1
    # view * view symbols and a byte of ways, in multiples of 16 bytes: 2, 10, 26 and 122 bytes.
    assert worlds.record.shape == (2, 42, size)
    window, ways, rest = worlds.record.split([view * view, 1, size - view * view - 1], dim=2)
    assert torch.equal(window.reshape(2, 42, view, view), windows(worlds.config, worlds.kind))
    assert torch.equal(ways[..., 0], free_ways(worlds.config, worlds.wall))
    assert not rest.any()
    # By flat state they are read in place.
    assert torch.equal(worlds.state_window, worlds.window.flatten(0, 1))
    assert torch.equal(worlds.state_kind, worlds.kind.flatten())
    assert torch.equal(worlds.state_ways, ways.flatten())
    for view_of_it in (worlds.state_window, worlds.state_kind, worlds.state_ways, worlds.window):
        assert view_of_it.untyped_storage().data_ptr() == worlds.record.data_ptr()


def test_free_ways_by_hand():
    config = WorldConfig(height=4, width=5)
    worlds = parse(config, ["#####\n#S.##\n##A##\n#####"])
    # Bits 2 to 5 are up, right, down, left.  From the start one can go right, from the cell
    # beside it left and down, from the reward up; from within a wall nowhere.
    free = dict.fromkeys(range(20), 0) | {6: 0b001000, 7: 0b110000, 12: 0b000100}
    assert free_ways(config, worlds.wall).tolist() == [list(free.values())]


def test_a_window_beyond_the_world_is_wall(build_worlds):
    worlds = build_worlds(1, view_radius=8)
    assert worlds.window.shape == (1, 42, 17, 17)
    # From (1, 1) the world's 6 x 7 cells begin at (7, 7) of the window.
    window = worlds.window[0, 8]
    assert torch.equal(window[7:13, 7:14].flatten(), worlds.kind[0])
    assert int((window == WALL).sum()) == 17 * 17 - 42 + int(worlds.wall.sum())

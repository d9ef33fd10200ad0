"""What is seen, as symbols, one-hot planes and numbers."""

import torch

from gridworld import WALL, observation_id, one_hot, symbols


def test_symbols_are_the_square_around_the_cell(build_worlds):
    worlds = build_worlds(2, view_radius=2)
    config = worlds.config
    for state in (int(worlds.start[0]), 42 + 8, 42 + 33):
        world, cell = divmod(state, config.cells)
        row, column = divmod(cell, config.width)
        expected = [
            [
                worlds.kind[world, y * config.width + x].tolist()
                if 0 <= y < config.height and 0 <= x < config.width
                else WALL
                for x in range(column - 2, column + 3)
            ]
            for y in range(row - 2, row + 3)
        ]
        seen = symbols(worlds, torch.tensor([state]))
        assert seen.dtype == torch.uint8
        assert seen.tolist() == [expected]


def test_one_hot_has_a_plane_per_kind():
    # A batch of two views of 3 x 3, symbols of 0 to 3.
    seen = torch.tensor(
        [[[0, 1, 3], [1, 1, 0], [0, 0, 0]], [[3, 3, 3], [0, 0, 1], [1, 0, 1]]], dtype=torch.uint8
    )
    planes = one_hot(seen, 4)
    assert planes.shape == (2, 4, 3, 3)
    assert planes.dtype == torch.float32
    assert planes[0, 1].tolist() == [[0, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert planes[1, 3].tolist() == [[1, 1, 1], [0, 0, 0], [0, 0, 0]]
    assert not planes[:, 2].any()
    assert torch.equal(planes.argmax(1), seen.long())


def test_time_may_lead_the_batch(build_worlds):
    worlds = build_worlds(2)
    seen = symbols(worlds, worlds.start)
    unroll = torch.stack([seen, seen.flip(0), seen])  # [T, B, view, view]
    planes = one_hot(unroll, worlds.config.num_kinds)
    assert planes.shape == (3, 2, 7, 3, 3)
    assert torch.equal(planes[1], one_hot(seen.flip(0), 7))


def test_both_write_where_they_are_told(build_worlds):
    worlds = build_worlds(2)
    unroll = torch.full((3, 2, 3, 3), 99, dtype=torch.uint8)
    symbols(worlds, worlds.start, out=unroll[1])
    assert torch.equal(unroll[1], symbols(worlds, worlds.start))
    assert (unroll[[0, 2]] == 99).all()
    planes = torch.full((2, 7, 3, 3), 99.0)
    one_hot(unroll[1], 7, out=planes)
    assert torch.equal(planes, one_hot(unroll[1], 7))


def test_observation_ids_are_looked_up_by_state(build_worlds):
    worlds = build_worlds(3)
    state = torch.tensor([5, 42 + 17, 84 + 30])
    expected = [worlds.observation[w, c].tolist() for w, c in [(0, 5), (1, 17), (2, 30)]]
    assert observation_id(worlds, state).tolist() == expected

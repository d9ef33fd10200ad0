from dataclasses import replace

import torch
from torch.testing import assert_close

from agents.heads.components.decoders import Cells
from envs.base import EnvSpec

ATARI = EnvSpec("Atari", 2, (4, 84, 84), torch.uint8, 4, "Made", num_frames=4)
WINDOW = EnvSpec("Window", 2, (3, 5), torch.uint8, 4, "Made", num_symbols=7)


def change_of(spec, before, after, cell, margin):
    observation = torch.stack([before, after]).unsqueeze(1).to(spec.observation_dtype)
    return Cells(spec, cell, margin).change(observation)[0, 0]


def test_atari_has_the_papers_twenty_by_twenty_cells_of_the_inner_screen():
    blank = torch.zeros(4, 84, 84)
    marked = blank.clone()
    marked[3, 2, 2] = 255  # a corner of the first cell
    marked[3, 5, 6:8] = 102  # in the second of the first row: 2 * 102 / 255 / 16
    marked[3, 81, 81] = 51  # of the last cell
    marked[3, 1, 40] = marked[3, 82, 40] = 255  # in the margin
    change = change_of(ATARI, blank, marked, cell=4, margin=2)
    assert change.shape == (20, 20)
    expected = torch.zeros(20, 20)
    expected[0, 0], expected[0, 1], expected[19, 19] = 1 / 16, 0.8 / 16, 0.2 / 16
    assert_close(change, expected)
    assert_close(change_of(ATARI, marked, blank, cell=4, margin=2), expected)


def test_of_a_stack_the_newest_frame_counts():
    before, after = torch.zeros(2, 4, 84, 84)
    after[:3] = 255  # what was seen before is pushed to the front of the stack
    assert not change_of(ATARI, before, after, cell=4, margin=2).any()


def test_of_a_colour_image_the_mean_over_colours_counts():
    spec = replace(ATARI, observation_shape=(3, 8, 8), num_frames=1)
    before, after = torch.zeros(2, 3, 8, 8)
    after[0] = 255
    assert_close(change_of(spec, before, after, 4, 0), torch.full((2, 2), 1 / 3))


def test_a_symbol_changes_or_does_not():
    spec = WINDOW
    before, after = torch.zeros(2, 3, 5)
    after[1, 4], after[2, 0] = 6, 1  # by how much means nothing
    expected = torch.zeros(3, 5)
    expected[1, 4] = expected[2, 0] = 1.0
    assert torch.equal(change_of(spec, before, after, 1, 0), expected)


def test_amounts_change_by_their_difference():
    spec = replace(WINDOW, num_symbols=0, observation_dtype=torch.float32)
    before, after = torch.zeros(2, 3, 5)
    after[0, 1], after[1, 1] = 0.5, -2.0
    change = change_of(spec, before, after, 1, 0)
    assert (change[0, 1], change[1, 1], change.sum()) == (0.5, 2.0, 2.5)


def test_every_step_of_every_environment_has_its_own_change():
    observation = torch.randint(7, (4, 2, 3, 5), dtype=torch.uint8)
    change = Cells(WINDOW, 1, 0).change(observation)
    for t in range(3):
        for b in range(2):
            assert torch.equal(change[t, b], (observation[t, b] != observation[t + 1, b]).float())


def test_a_part_of_a_cell_is_left_out():
    observation = torch.zeros(2, 2, 4, 84, 84, dtype=torch.uint8)
    observation[1, :, 3, 81:] = 255
    cells = Cells(ATARI, 9, 0)
    assert (cells.height, cells.width) == (9, 9)  # of 84 pixels, 81
    assert not cells.change(observation).any()

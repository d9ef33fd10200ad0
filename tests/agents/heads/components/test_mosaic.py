import pytest
import torch

from agents.heads.components.decoders import GAP, mosaic


def test_rows_stand_above_each_other_with_gaps_between():
    # Two rows of three observations of 1 x 2 cells, each cell 42 pixels wide.
    above = torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]], [[0.5, 0.5]]])
    below = torch.tensor([[[1.0, 1.0]], [[0.0, 0.0]], [[0.25, 0.75]]])
    picture = mosaic([above, below])
    assert picture.dtype == torch.uint8
    assert picture.shape == (42 + GAP + 42, 3 * 84 + 2 * GAP, 3)
    for top, row in ((0, above), (42 + GAP, below)):
        for index, observation in enumerate(row):
            left = index * (84 + GAP)
            for cell in range(2):
                block = picture[top : top + 42, left + 42 * cell : left + 42 * (cell + 1)]
                expected = int((observation[0, cell] * 255).round())
                assert set(block.flatten().tolist()) == {expected}
    assert set(picture[42 : 42 + GAP].flatten().tolist()) == {128}


def test_amounts_are_scaled_as_the_first_row_is():
    first, second = torch.tensor([[-1.0, 3.0]]), torch.tensor([[1.0, 99.0]])
    picture = mosaic([first.unsqueeze(0), second.unsqueeze(0)])
    # From -1 (black) to 3 (white): 1 is in the middle, 99 cut off.
    assert picture[0, 0].tolist() == [0] * 3
    assert picture[-1, 0].tolist() == [128] * 3
    assert picture[-1, -1].tolist() == [255] * 3


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((7,), (12, 84, 3)),  # a line of squares
        ((4, 3), (84, 63, 3)),
        ((4, 84, 84), (84, 84, 3)),
        ((3, 42, 42), (84, 84, 3)),
        ((3, 200, 100), (200, 100, 3)),
    ],
)
def test_observations_of_every_shape_are_drawn(shape, expected):
    assert mosaic([torch.rand(1, *shape)]).shape == expected


def test_the_newest_frame_of_a_stack_is_shown_in_its_colours():
    stack = torch.zeros(1, 6, 84, 84)  # two frames
    stack[:, 0] = 1.0
    stack[:, 4] = 1.0
    assert mosaic([stack], num_frames=2)[40, 40].tolist() == [0, 255, 0]
    grey = torch.zeros(1, 3, 84, 84)  # three frames of one channel
    grey[:, 0] = 1.0
    assert not mosaic([grey], num_frames=3).any()


def test_three_channels_are_colours_and_of_any_other_number_the_last_is_shown():
    red = torch.zeros(1, 3, 84, 84)
    red[:, 0] = 1.0
    assert mosaic([red])[40, 40].tolist() == [255, 0, 0]
    stack = torch.zeros(1, 4, 84, 84)
    stack[:, :3, 0, 0] = 1.0  # older frames are not seen
    stack[:, 3, 5, 6] = 1.0
    picture = mosaic([stack])
    assert picture.nonzero().tolist() == [[5, 6, 0], [5, 6, 1], [5, 6, 2]]


def test_every_symbol_has_a_colour_of_its_own():
    symbols = torch.arange(6, dtype=torch.uint8).view(1, 1, 6)
    picture = mosaic([symbols], num_symbols=6)
    colours = [tuple(picture[0, 14 * symbol].tolist()) for symbol in range(6)]
    assert len(set(colours)) == 6


def test_observations_that_are_all_alike_can_be_drawn():
    picture = mosaic([torch.zeros(2, 7, 7)])
    assert not picture[:, :84].any()
    assert not picture[:, 84 + GAP :].any()

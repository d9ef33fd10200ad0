from math import nan

import numpy as np
import pytest

from agents.logs.tensorboard import AGAINST, ALONG, CELL, NEITHER, PAPER, UNKNOWN, heatmap


def corner(picture, count, row, column):
    """The colour in a cell's corner, where no digit is."""
    side = len(picture) - CELL * count
    return tuple(picture[side + CELL * row + 4, side + CELL * column + 4])


def test_each_number_has_its_colour_in_its_place():
    cosines = np.array([[1.0, -1.0, 0.0], [-1.0, nan, 0.5], [0.0, -0.25, 7.0]])
    picture = heatmap(["main", "one", "two"], cosines)
    assert picture.shape[0] == picture.shape[1]
    assert corner(picture, 3, 0, 0) == ALONG
    assert corner(picture, 3, 0, 1) == corner(picture, 3, 1, 0) == AGAINST
    assert corner(picture, 3, 0, 2) == NEITHER
    assert corner(picture, 3, 1, 1) == UNKNOWN
    # Half way, and a quarter of the way, from white; beyond the end it is the end.
    half = tuple(round((near + far) / 2) for near, far in zip(NEITHER, ALONG, strict=True))
    assert corner(picture, 3, 1, 2) == half
    quarter = tuple(round(0.75 * a + 0.25 * b) for a, b in zip(NEITHER, AGAINST, strict=True))
    assert corner(picture, 3, 2, 1) == quarter
    assert corner(picture, 3, 2, 2) == ALONG


@pytest.mark.parametrize("names", [["main", "a"], ["main", "an_auxiliary_with_a_long_name"]])
def test_there_is_room_for_every_name_on_both_sides(names):
    picture = heatmap(names, np.eye(2))
    side = len(picture) - 2 * CELL
    labels = picture[:side, side:], picture[side:, :side]
    for label in labels:
        inked = (label != PAPER).any(-1)
        assert inked.any()
        # Nothing is cut off at the border of the picture.
        assert not inked[0].any()
        assert not inked[:, 0].any()


def test_names_stand_at_their_own_rows_and_columns():
    plain = heatmap(["main", "x", "x"], np.eye(3))
    other = heatmap(["main", "x", "y"], np.eye(3))
    side = len(plain) - 3 * CELL
    differs = (plain != other).any(-1)
    assert differs[side + 2 * CELL :, :side].any()
    assert differs[:side, side + 2 * CELL :].any()
    assert not differs[: side + 2 * CELL, : side + 2 * CELL].any()

"""Every layout: walled in, sized as asked, and as its name says."""

import pytest
import torch

from gridworld import LAYOUTS
from gridworld.hashing import Keys


def skeleton(layout, count, height, width):
    keys = Keys.of(torch.zeros(count, dtype=torch.int64), torch.arange(count))
    return LAYOUTS[layout].skeleton(keys, height, width)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_walled_in_and_has_free_cells(layout):
    walls = skeleton(layout, 8, 7, 9)
    assert walls.shape == (8, 7, 9)
    border = torch.ones(7, 9, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    assert walls[:, border].all()
    assert (~walls).flatten(1).any(1).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_works_at_its_smallest(layout):
    size = LAYOUTS[layout].smallest
    assert skeleton(layout, 2, size, size).shape == (2, size, size)


@pytest.mark.parametrize("layout", ["scattered", "empty"])
def test_nothing_stands_inside_where_walls_are_scattered_later(layout):
    assert not skeleton(layout, 2, 5, 6)[:, 1:-1, 1:-1].any()


def test_rooms_are_four_and_joined_by_four_doors():
    height, width = 8, 11
    for wall in skeleton("rooms", 60, height, width).tolist():
        # The crossing's walls: full but for two doors each, one on each side.
        rows = [y for y in range(1, height - 1) if sum(wall[y][1 : width - 1]) >= width - 2 - 2]
        columns = [
            x
            for x in range(1, width - 1)
            if sum(wall[y][x] for y in range(1, height - 1)) >= height - 2 - 2
        ]
        assert len(rows) == len(columns) == 1
        row, column = rows[0], columns[0]
        assert 2 <= row <= height - 3
        assert 2 <= column <= width - 3
        assert wall[row][column]
        doors_in_row = [x for x in range(width) if not wall[row][x]]
        doors_in_column = [y for y in range(height) if not wall[y][column]]
        assert [x < column for x in doors_in_row] == [True, False]
        assert [y < row for y in doors_in_column] == [True, False]
        # And nothing else.
        assert sum(map(sum, wall)) == 2 * (height + width) - 4 + (height - 2) + (width - 2) - 1 - 4


def test_crossings_lie_everywhere_they_can():
    walls = skeleton("rooms", 300, 7, 9)[:, 1:-1, 1:-1]
    rows = {int(row) for row in walls.sum(2).argmax(1)}
    columns = {int(column) for column in walls.sum(1).argmax(1)}
    # Counted within the border: rows 1 to 3 of 5, columns 1 to 5 of 7.
    assert rows == {1, 2, 3}
    assert columns == {1, 2, 3, 4, 5}

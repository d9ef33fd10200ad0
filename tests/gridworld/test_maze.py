"""Mazes are spanning trees of their rooms."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gridworld.hashing import Keys
from gridworld.layouts import maze_walls


def mazes(count, height, width, seed=0):
    keys = Keys.of(torch.full((count,), seed), torch.arange(count))
    return maze_walls(keys, 3, height, width)


def reached(wall, start):
    """All free cells that a walk can reach, one after the other."""
    seen, todo = {start}, [start]
    while todo:
        row, column = todo.pop()
        for place in [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]:
            if not wall[place[0]][place[1]] and place not in seen:
                seen.add(place)
                todo.append(place)
    return seen


@settings(deadline=None, max_examples=12)
@given(rows=st.integers(1, 5), columns=st.integers(1, 6), seed=st.integers(0, 99))
def test_a_maze_joins_all_rooms_without_a_loop(rows, columns, seed):
    height, width = 2 * rows + 1, 2 * columns + 1
    for wall in mazes(2, height, width, seed).tolist():
        free = {(y, x) for y in range(height) for x in range(width) if not wall[y][x]}
        rooms = {(y, x) for y in range(1, height, 2) for x in range(1, width, 2)}
        assert rooms <= free
        # A tree: connected, and one passage fewer than rooms.
        assert reached(wall, (1, 1)) == free
        assert len(free) == 2 * len(rooms) - 1


def test_worlds_have_mazes_of_their_own():
    walls = mazes(20, 9, 11)
    assert len(walls.flatten(1).unique(dim=0)) == 20


def test_any_passage_may_be_open_or_closed():
    # Rooms of 3 by 3 have 12 passages, of which a maze opens 8.
    walls = mazes(200, 7, 7)
    passages = [(y, x) for y in range(1, 6) for x in range(1, 6) if (y + x) % 2 == 1]
    share = torch.stack([(~walls[:, y, x]).float().mean() for y, x in passages])
    assert len(passages) == 12
    assert ((share > 0.3) & (share < 0.95)).all()
    torch.testing.assert_close(share.mean(), torch.tensor(8 / 12))

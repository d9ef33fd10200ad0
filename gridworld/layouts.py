"""Layouts: where the walls are before walls are scattered over them.

Adding one is a function and a line in `LAYOUTS`; the name is then an option of
`WorldConfig`, and every test of the generator covers it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from gridworld.hashing import Keys, Stream

Skeleton = Callable[[Keys, int, int], Tensor]
"""Draws `Bool[W, height, width]`, True at walls, from keys, height and width."""


@dataclass(frozen=True)
class Layout:
    """One way to lay out walls."""

    skeleton: Skeleton
    """The walls themselves, the border among them."""
    wall_probability: float = 0.0
    """Of a further wall on each cell that is free, where the settings do not say."""
    smallest: int = 3
    """Height and width must be at least this."""
    odd: bool = False
    """Whether height and width must be odd."""


def empty(keys: Keys, height: int, width: int) -> Bool[Tensor, "W {height} {width}"]:
    """Walls along the border only."""
    walls = torch.ones(
        keys.lanes.shape[1], height, width, dtype=torch.bool, device=keys.lanes.device
    )
    walls[:, 1:-1, 1:-1] = False
    return walls


def rooms(keys: Keys, height: int, width: int) -> Bool[Tensor, "W {height} {width}"]:
    """Four rooms around a random crossing of two walls, one door in each of its four arms.

    After the four rooms of Sutton, Precup and Singh 1999 (Artificial Intelligence 112),
    whose walls do not move.
    """
    walls = empty(keys, height, width)
    draw = keys.uniform(Stream.LAYOUT, 6)  # [W, 6]
    # A crossing leaves at least one free cell on each of its sides.
    row = _integer(draw[:, 0], 2, height - 2)
    column = _integer(draw[:, 1], 2, width - 2)
    world = torch.arange(len(row), device=row.device)
    walls[world, row, :] = True
    walls[world, :, column] = True
    walls[world, row, _integer(draw[:, 2], 1, column)] = False
    walls[world, row, _integer(draw[:, 3], column + 1, width - 1)] = False
    walls[world, _integer(draw[:, 4], 1, row), column] = False
    walls[world, _integer(draw[:, 5], row + 1, height - 1), column] = False
    return walls


def maze(keys: Keys, height: int, width: int) -> Bool[Tensor, "W {height} {width}"]:
    """A perfect maze: one path between any two cells."""
    return maze_walls(keys, Stream.LAYOUT, height, width)


def _integer(
    uniform: Tensor, low: int | Int[Tensor, " W"], high: int | Int[Tensor, " W"]
) -> Int[Tensor, " W"]:
    """Turns uniform numbers into integers in low, ..., high - 1."""
    return (uniform * (high - low)).long() + low


LAYOUTS = {
    # After "Distilling Policy Distillation" (Czarnecki et al. 2019, arXiv 1902.02186): about a
    # tenth of the cells of its Figure 7 are walls.
    "scattered": Layout(empty, wall_probability=0.1),
    "rooms": Layout(rooms, smallest=5),
    "maze": Layout(maze, odd=True),
    "empty": Layout(empty),
}
"""The registry."""


def maze_walls(
    keys: Keys, stream: int, height: int, width: int
) -> Bool[Tensor, "W {height} {width}"]:
    """Carves one perfect maze per world: a random minimum spanning tree by Prim's algorithm.

    Rooms lie on the cells with odd coordinates; two neighbouring rooms are joined where the
    wall between them is taken out.  Random weights on these walls make the minimum spanning
    tree a random maze, in which exactly one path joins any two rooms.

    Args:
        keys: the random numbers of each world.
        stream: which of their streams the weights come from.
        height: of the worlds, in cells; odd.
        width: of the worlds, in cells; odd.
    """
    device = keys.lanes.device
    rooms, passages = _maze_graph(height, width)
    # [passages, 3]; a single room has none.
    graph = torch.tensor(passages, dtype=torch.int64, device=device).view(-1, 3)
    ends, between = graph[:, :2], graph[:, 2]
    num_worlds = keys.lanes.shape[1]
    walls = torch.ones(num_worlds, height * width, dtype=torch.bool, device=device)
    walls[:, torch.tensor(rooms, device=device)] = False

    opened = torch.zeros(num_worlds, len(passages), dtype=torch.bool, device=device)
    # All candidates: the rank is a weight without ties.
    weight = keys.rank(stream, torch.ones_like(opened))
    reached = torch.zeros(num_worlds, len(rooms), dtype=torch.bool, device=device)
    reached[:, 0] = True
    for _ in range(len(rooms) - 1):
        leads_out = reached[:, ends[:, 0]] ^ reached[:, ends[:, 1]]  # [W, passages]
        lightest = torch.where(leads_out, weight, len(passages)).argmin(1, keepdim=True)
        opened.scatter_(1, lightest, True)
        reached.scatter_(1, ends[lightest.squeeze(1)], True)
    walls[:, between] = ~opened
    return walls.view(num_worlds, height, width)


def _maze_graph(height: int, width: int) -> tuple[list[int], list[tuple[int, int, int]]]:
    """Lists the cells of the rooms, and per passage its two rooms' numbers and its cell."""
    rooms = [y * width + x for y in range(1, height, 2) for x in range(1, width, 2)]
    number = {cell: index for index, cell in enumerate(rooms)}
    passages = [
        (number[cell], number[cell + 2 * step], cell + step)
        for cell in rooms
        for step in (1, width)
        if cell + 2 * step in number and (step == width or cell % width + 2 < width)
    ]
    return rooms, passages

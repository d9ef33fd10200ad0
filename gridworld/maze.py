"""Perfect mazes, many at once: random minimum spanning trees by Prim's algorithm.

Rooms lie on the cells with odd coordinates; two neighbouring rooms are joined where
the wall between them is taken out.  Random weights on these walls make the minimum
spanning tree a random maze, in which exactly one path joins any two rooms.
"""

import torch
from jaxtyping import Bool
from torch import Tensor

from gridworld.hashing import Keys


def maze_walls(
    keys: Keys, stream: int, height: int, width: int
) -> Bool[Tensor, "W {height} {width}"]:
    """Carves one maze per world; height and width are odd."""
    device = keys.lanes.device
    rooms, passages = _graph(height, width)
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


def _graph(height: int, width: int) -> tuple[list[int], list[tuple[int, int, int]]]:
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

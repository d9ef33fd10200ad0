"""Worlds by their numbers: procedural generation on the device.

Walls by layout, then contents cell by cell as in "Distilling Policy Distillation"
(Czarnecki et al. 2019, https://arxiv.org/abs/1902.02186), then the start.  A world
whose optimal return from the start is not positive is drawn again, with the next
attempt's random numbers, under the same number: so world k of a seed is the same
whatever the batch it is made in.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

from gridworld.config import EMPTY, FIRST_TERMINAL, PENALTY, WALL, WorldConfig
from gridworld.hashing import Keys, Stream
from gridworld.layouts import LAYOUTS
from gridworld.options import OptionError, mention
from gridworld.solve import is_solvable
from gridworld.worlds import Worlds

MOST_ATTEMPTS = 1000
"""Attempts at one world before its settings are called hopeless."""


def generate(
    config: WorldConfig,
    seed: int,
    world_ids: Sequence[int],
    device: torch.device | str = "cpu",
) -> Worlds:
    """Makes the worlds of the given numbers.

    Training and held-out worlds are ranges of numbers: `range(4096)` and
    `range(4096, 5096)`.

    Args:
        config: the family's settings.
        seed: not negative, below 2**63; worlds of two seeds have nothing in common.
        world_ids: not negative, below 2**32.
        device: where to make and keep them.

    Raises:
        ValueError: if a number is out of range, or no solvable world is found.
    """
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed must be 0 or more and below 2**63, not {seed}.")
    if not world_ids or not all(0 <= world < 2**32 for world in world_ids):
        raise ValueError(
            "world_ids must be one or more numbers from 0 to 2**32 - 1, such as range(1000)."
        )
    world_id = torch.tensor(list(world_ids), device=device)
    seeds = torch.full_like(world_id, seed)
    kind = torch.empty(len(world_id), config.cells, dtype=torch.uint8, device=device)
    start = torch.empty_like(world_id)
    pending = torch.arange(len(world_id), device=device)
    for attempt in range(MOST_ATTEMPTS):
        keys = Keys.of(seeds[pending], world_id[pending], torch.full_like(pending, attempt))
        kind[pending], start[pending] = draft(config, keys)
        pending = pending[~is_solvable(config, kind[pending], start[pending])]
        if not len(pending):
            return Worlds.build(config, seeds, world_id, kind, start)
    raise OptionError(
        "",
        f"World {world_id[pending[0]].tolist()} of seed {seed} had no reward worth its way in "
        f"{MOST_ATTEMPTS} attempts: use larger worlds, fewer walls and penalties, or a higher "
        f"{mention('terminal_probability')}.",
    )


def draft(config: WorldConfig, keys: Keys) -> tuple[UInt8[Tensor, "W cells"], Int64[Tensor, " W"]]:
    """Draws the kinds of all cells and the cell of the start; not all drafts are solvable."""
    wall = LAYOUTS[config.layout].skeleton(keys, config.height, config.width).flatten(1)
    start = _starts(config, keys, ~wall)
    scattered = keys.uniform(Stream.WALLS, config.cells) < config.scattered
    # Nothing falls on the start.
    wall = wall | scattered.scatter_(1, start[:, None], False)

    # Consecutive intervals of [0, 1): penalty, then each terminal reward, then nothing.
    draw = keys.uniform(Stream.CONTENTS, config.cells) - config.penalty_probability
    kind = torch.full_like(wall, EMPTY, dtype=torch.uint8).masked_fill_(draw < 0, PENALTY)
    for index in range(len(config.terminal_rewards)):
        low = index * config.terminal_probability
        inside = (draw >= low) & (draw < low + config.terminal_probability)
        kind.masked_fill_(inside, FIRST_TERMINAL + index)
    kind.masked_fill_(wall, WALL)
    return kind.scatter_(1, start[:, None], EMPTY), start


def _starts(config: WorldConfig, keys: Keys, free: Bool[Tensor, "W cells"]) -> Int64[Tensor, " W"]:
    if config.start == "random":
        return keys.rank(Stream.START, free).argmin(1)
    cell = torch.arange(config.cells, device=free.device)
    rows = cell // config.width - config.height // 2
    columns = cell % config.width - config.width // 2
    # The number of the cell decides between cells that are equally near.
    distance = (rows**2 + columns**2) * config.cells + cell
    return torch.where(free, distance, distance.sum()).argmin(1)

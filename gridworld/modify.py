"""The same worlds with other positive rewards: where a teacher's knowledge is partly wrong.

Du et al. 2018 (https://arxiv.org/abs/1812.02224, Figure 4) let teachers from worlds
with "modified positive rewards" teach.  How they were modified is not told, so three
ways are offered.  Walls, penalties, negative rewards and the start stay.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

from gridworld.config import EMPTY, WorldConfig
from gridworld.generate import generate
from gridworld.hashing import Keys, Stream
from gridworld.solve import is_solvable, solvable
from gridworld.worlds import Worlds

Change = Literal["redraw", "swap", "remove"]
"""What becomes of the positive rewards.

`redraw`: each moves to a random empty cell; `swap`: the largest becomes the smallest, the
second largest the second smallest and so on; `remove`: a random number of them goes, at least
one of several, but never the last.
"""

_MOST_ATTEMPTS = 64
"""Draws of one world until it is solvable."""


def modified(worlds: Worlds, change: Change = "redraw", draw: int = 0) -> Worlds:
    """Changes the positive rewards of every world, under the same seeds and numbers.

    `redraw` and `remove` are drawn again until a world is solvable.  Where no draw is, and
    with `swap`, it may not be: `solvable` tells.  A world may also come out as it was, for
    instance if its only reward is not removed; `modified_pairs` leaves out both.

    Args:
        worlds: the pool, which is not changed.
        change: what becomes of the positive rewards.
        draw: each number, not negative, gives other random changes; `swap` has none.

    Raises:
        ValueError: if there is no such change, or it would change nothing.
    """
    if change not in _CHANGES:
        raise ValueError(f"change must be one of {', '.join(_CHANGES)}, not {change}.")
    if not 0 <= draw < 2**32:
        raise ValueError(f"draw must be 0 or more and below 2**32, not {draw}.")
    config = worlds.config
    if change == "swap" and sum(reward > 0 for reward in config.terminal_rewards) < 2:
        raise ValueError(
            "swap needs two positive terminal_rewards at least: use redraw or remove instead."
        )
    kind = worlds.kind.clone()
    pending = torch.arange(len(worlds), device=worlds.device)
    for attempt in range(1 if change == "swap" else _MOST_ATTEMPTS):
        counters = [torch.full_like(pending, number) for number in (draw, attempt)]
        keys = Keys.of(worlds.seed[pending], worlds.world_id[pending], *counters)
        old, start = worlds.kind[pending], worlds.start_cell[pending]
        new = _CHANGES[change](config, old, start, keys)
        kind[pending] = new
        pending = pending[~is_solvable(config, new, start)]
        if not len(pending):
            break
    return Worlds.build(config, worlds.seed, worlds.world_id, kind, worlds.start_cell)


def modified_pairs(
    config: WorldConfig,
    seed: int,
    count: int,
    change: Change = "redraw",
    first: int = 0,
    device: torch.device | str = "cpu",
) -> tuple[Worlds, Worlds]:
    """Makes pairs of worlds and modified variants, without equal or unsolvable ones.

    Args:
        config: the family's settings.
        seed: of the worlds.
        count: how many pairs.
        change: what becomes of the positive rewards.
        first: the number of the first world that may be used; the following ones come next.
        device: where to make and keep them.

    Raises:
        ValueError: if no pair is found among `count` worlds in a row.
    """
    pairs: list[tuple[Worlds, Worlds]] = []
    missing = count
    while missing > 0:
        worlds = generate(config, seed, range(first, first + count), device)
        others = modified(worlds, change)
        differs = (worlds.kind != others.kind).any(1)
        fit = (differs & solvable(others)).nonzero().squeeze(1)[:missing]
        if not len(fit):
            raise ValueError(
                f"No world from {first} to {first + count - 1} can be changed by {change} and "
                "stay solvable: use redraw, or a higher terminal_probability."
            )
        pairs.append((worlds.select(fit), others.select(fit)))
        missing, first = missing - len(fit), first + count
    before, after = zip(*pairs, strict=True)
    return Worlds.concatenate(before), Worlds.concatenate(after)


def _redraw(
    config: WorldConfig,
    kind: UInt8[Tensor, "W cells"],
    start_cell: Int64[Tensor, " W"],
    keys: Keys,
) -> UInt8[Tensor, "W cells"]:
    positive = _is_positive(config, kind)
    candidates = (positive | (kind == EMPTY)).scatter(1, start_cell[:, None], False)
    # The cells with the lowest ranks take the rewards, in the order in which they lay.
    rank = keys.rank(Stream.CHANGE, candidates)
    rewards = kind.gather(1, (~positive).to(torch.uint8).argsort(dim=1, stable=True))
    chosen = rank < positive.sum(1, keepdim=True)
    return torch.where(candidates, torch.where(chosen, rewards.gather(1, rank), EMPTY), kind)


def _swap(
    config: WorldConfig,
    kind: UInt8[Tensor, "W cells"],
    start_cell: Int64[Tensor, " W"],
    keys: Keys,
) -> UInt8[Tensor, "W cells"]:
    rewards = config.kind_rewards
    by_size = sorted((k for k, r in enumerate(rewards) if r > 0), key=rewards.__getitem__)
    becomes = torch.arange(config.num_kinds, dtype=torch.uint8)
    becomes[by_size] = torch.tensor(by_size[::-1], dtype=torch.uint8)
    return becomes.to(kind.device)[kind.long()]


def _remove(
    config: WorldConfig,
    kind: UInt8[Tensor, "W cells"],
    start_cell: Int64[Tensor, " W"],
    keys: Keys,
) -> UInt8[Tensor, "W cells"]:
    positive = _is_positive(config, kind)
    count = positive.sum(1, keepdim=True)
    # From 1 to count - 1 stay: all numbers are equally likely.
    share = keys.uniform(Stream.CHANGE + 1, 1)
    stay = 1 + (share * (count - 1).clamp(min=0)).long()
    removed = positive & (keys.rank(Stream.CHANGE, positive) >= stay)
    return kind.masked_fill(removed, EMPTY)


def _is_positive(config: WorldConfig, kind: UInt8[Tensor, "W cells"]) -> Bool[Tensor, "W cells"]:
    rewards = torch.tensor(config.kind_rewards, device=kind.device)
    return rewards[kind.long()] > 0


_CHANGES = {"redraw": _redraw, "swap": _swap, "remove": _remove}
"""The changes by name."""

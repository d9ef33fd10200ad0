"""Worlds as text: to look at, and to write worlds by hand."""

import string
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from gridworld.config import EMPTY, FIRST_TERMINAL, PENALTY, WALL, WorldConfig
from gridworld.worlds import Worlds

_ARROWS = "^>v<"
_START, _AGENT = "S", "@"
_TERMINAL_LETTERS = string.ascii_uppercase.replace(_START, "")


def text(
    worlds: Worlds,
    number: int,
    cell: int | None = None,
    policy: Float[Tensor, "cells A"] | None = None,
) -> str:
    """Writes one world in characters, with a legend below.

    Args:
        worlds: the pool.
        number: which of its worlds.
        cell: of the agent, marked `@`.
        policy: cells where one acts show the likeliest action, the start as well.
    """
    config = worlds.config
    letters = _letters(config)
    kinds: list[int] = worlds.kind[number].tolist()
    symbols = [letters[kind] for kind in kinds]
    if policy is None:
        symbols[int(worlds.start_cell[number])] = _START
    else:
        best: list[int] = policy.argmax(-1).tolist()
        symbols = [
            _ARROWS[action] if kind in (EMPTY, PENALTY) else symbol
            for kind, action, symbol in zip(kinds, best, symbols, strict=True)
        ]
    if cell is not None:
        symbols[cell] = _AGENT
    rows = [
        "".join(symbols[first : first + config.width])
        for first in range(0, config.cells, config.width)
    ]
    legend = [
        f"{letters[kind]} {reward:+g}"
        for kind, reward in enumerate(config.kind_rewards)
        if kind not in (EMPTY, WALL)
    ]
    return "\n".join([*rows, ", ".join(legend)])


def parse(
    config: WorldConfig, pictures: Sequence[str], device: torch.device | str = "cpu"
) -> Worlds:
    """Reads worlds as `text` writes them; they get seed 0 and the numbers 0, 1, ...

    Lines may be indented; what follows the last row, such as the legend, is skipped.

    Args:
        config: the family's settings; probabilities and layout play no role.
        pictures: one per world: `#` wall, `.` empty, `-` penalty, `S` start, `A`, `B`, ...
            the first, second, ... of `terminal_rewards`.
        device: where to keep the worlds.

    Raises:
        ValueError: if a picture has another size, an unknown symbol, no wall around it, or
            not exactly one start.
    """
    kinds = {letter: kind for kind, letter in enumerate(_letters(config))} | {_START: EMPTY}
    cells = [_cells_of(config, picture, kinds) for picture in pictures]
    number = torch.arange(len(cells), device=device)
    return Worlds.build(
        config,
        seed=torch.zeros_like(number),
        world_id=number,
        kind=torch.tensor([[kinds[s] for s in row] for row in cells], dtype=torch.uint8).to(device),
        start_cell=torch.tensor([row.index(_START) for row in cells]).to(device),
    )


def _cells_of(config: WorldConfig, picture: str, kinds: dict[str, int]) -> str:
    rows = [line.strip() for line in picture.strip().splitlines()][: config.height]
    cells = "".join(rows)
    if len(rows) != config.height or any(len(row) != config.width for row in rows):
        raise ValueError(
            f"A picture must have {config.height} rows of {config.width} cells, as the settings "
            f"say: set height and width to those of the picture:\n{picture}"
        )
    unknown = set(cells) - set(kinds)
    if unknown:
        raise ValueError(f"A picture may consist of {' '.join(kinds)}, not {sorted(unknown)}.")
    border = rows[0] + rows[-1] + "".join(row[0] + row[-1] for row in rows)
    if set(border) != {"#"}:
        raise ValueError(f"A picture must have walls (#) all around it:\n{picture}")
    if cells.count(_START) != 1:
        raise ValueError(f"A picture must have one start ({_START}):\n{picture}")
    return cells


def _letters(config: WorldConfig) -> list[str]:
    """The symbol of each kind; letters are too few for more than 25 terminal rewards."""
    terminal = (_TERMINAL_LETTERS * config.num_kinds)[: config.num_kinds - FIRST_TERMINAL]
    return [*".#-", *terminal]

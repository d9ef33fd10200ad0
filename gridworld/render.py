"""Pictures of worlds, of policies and of episodes."""

import numpy as np
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from gridworld.config import EMPTY, PENALTY, WALL, WorldConfig
from gridworld.worlds import Worlds

_COLOURS = {EMPTY: (250, 250, 250), WALL: (60, 60, 70), PENALTY: (250, 215, 160)}
_GAIN, _LOSS = np.array([30, 150, 70]), np.array([200, 45, 45])
_AGENT = (40, 90, 200)
_START = (150, 190, 250)


def image(
    worlds: Worlds,
    number: int,
    cell: int | None = None,
    policy: Float[Tensor, "cells A"] | None = None,
    scale: int = 16,
) -> UInt8[np.ndarray, "rows columns 3"]:
    """Draws one world in colours: gains green, losses red, the stronger the larger.

    Args:
        worlds: the pool.
        number: which of its worlds.
        cell: of the agent, a blue disc.
        policy: an arrow per action, the darker the likelier.
        scale: pixels along the side of a cell.

    Raises:
        ValueError: if the scale is below 4 pixels.
    """
    if scale < 4:
        raise ValueError(f"scale must be at least 4 pixels per cell, not {scale}.")
    config = worlds.config
    kind = worlds.kind[number].cpu().numpy()
    colours = _palette(config)[kind]  # [cells, 3]
    colours[worlds.start_cell[number].tolist()] = _START
    tiles = np.broadcast_to(colours[:, None, None], (config.cells, scale, scale, 3)).copy()
    if policy is not None:
        probability = policy.detach().cpu().double().numpy()
        acts = (kind == EMPTY) | (kind == PENALTY)
        for action, arrow in enumerate(_arrow_masks(scale)):
            shade = 1 - 0.85 * probability[acts, action]
            painted = tiles[acts]
            painted[:, arrow] = painted[:, arrow] * shade[:, None, None]
            tiles[acts] = painted
    if cell is not None:
        tiles[cell][_disc_mask(scale)] = _AGENT
    grid = tiles.reshape(config.height, config.width, scale, scale, 3)
    return grid.transpose(0, 2, 1, 3, 4).reshape(config.height * scale, config.width * scale, 3)


def film(
    worlds: Worlds, state: Int64[Tensor, " N"], scale: int = 16
) -> UInt8[np.ndarray, "N rows columns 3"]:
    """Draws an episode: one picture per flat state, each of the world that the state is in.

    Args:
        worlds: the pool that the states index.
        state: the flat states of the episode, in order.
        scale: pixels along one side of a cell.
    """
    cells = worlds.config.cells
    places = [divmod(place, cells) for place in state.tolist()]
    return np.stack([image(worlds, number, cell, scale=scale) for number, cell in places])


def _palette(config: WorldConfig) -> UInt8[np.ndarray, "kinds 3"]:
    largest = max(map(abs, config.terminal_rewards))
    palette = [_COLOURS[kind] for kind in (EMPTY, WALL, PENALTY)]
    for reward in config.terminal_rewards:
        strength = 0.35 + 0.65 * abs(reward) / largest
        full = _GAIN if reward > 0 else _LOSS
        palette.append(tuple(255 - strength * (255 - full)))
    return np.array(palette).astype(np.uint8)


def _arrow_masks(scale: int) -> list[np.ndarray]:
    """Triangles from the middle of a cell towards up, right, down and left."""
    centre = (scale - 1) / 2
    y, x = np.mgrid[:scale, :scale] - centre
    near, far = scale * 0.16, scale * 0.44
    ways = [(-y, x), (x, y), (y, x), (-x, y)]
    return [
        (along >= near)
        & (along <= far)
        & (abs(across) <= 0.5 * (far - along) + 0.5)
        # Two arrows never share a pixel.
        & (abs(across) < along)
        for along, across in ways
    ]


def _disc_mask(scale: int) -> np.ndarray:
    y, x = np.mgrid[:scale, :scale] - (scale - 1) / 2
    inside: np.ndarray = y**2 + x**2 <= (0.36 * scale) ** 2
    return inside

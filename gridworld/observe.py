"""What is seen of a state: symbols, their one-hot code, or a number per world.

All are gathers of one row per state.  `out` is written into where it is given: at
large B a fresh result costs more in page faults than the gather itself.
"""

import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from gridworld.worlds import Worlds


def symbols(
    worlds: Worlds, state: Int64[Tensor, " B"], out: UInt8[Tensor, "B view view"] | None = None
) -> UInt8[Tensor, "B view view"]:
    """Looks up the kinds of the cells around each state; outside of the world is wall."""
    return torch.index_select(worlds.state_window, 0, state, out=out)


def one_hot(
    symbol: UInt8[Tensor, "*batch view view"],
    num_kinds: int,
    out: Float32[Tensor, "*batch kinds view view"] | None = None,
) -> Float32[Tensor, "*batch kinds view view"]:
    """Codes symbols as one plane per kind, like an image's channels; flatten it for an MLP.

    Args:
        symbol: what `symbols` gives.
        num_kinds: of the worlds' settings.
        out: where to write.
    """
    if out is None:
        shape = (*symbol.shape[:-2], num_kinds, *symbol.shape[-2:])
        out = torch.empty(shape, dtype=torch.float32, device=symbol.device)
    kind = torch.arange(num_kinds, dtype=torch.uint8, device=symbol.device)
    return torch.eq(symbol.unsqueeze(-3), kind[:, None, None], out=out)


def observation_id(worlds: Worlds, state: Int64[Tensor, " B"]) -> Int64[Tensor, " B"]:
    """Looks up the number of what is seen: states of one world that look alike share it."""
    return worlds.observation.view(-1).index_select(0, state)

"""In which order each row visits the others: fixed, or random from a state of one integer.

Random orders hash a seed and the number of the draw.  They need no generator: the state is a
buffer, is checkpointed, gives the same orders on every device and never leaves it.
"""

from typing import Literal, get_args

import torch
from jaxtyping import Int
from torch import Tensor, nn

Order = Literal["random", "fixed"]

_MASK = 0xFFFFFFFF
_STRIDE = 0x9E3779B9
"""2^32 over the golden ratio: the hash sees consecutive numbers far apart."""


def check_order(order: str) -> None:
    """Refuses what is not an order."""
    if order not in get_args(Order):
        raise ValueError(f"order must be random or fixed, not {order}.")


class Orders(nn.Module):
    """Gives an order until it is told to go on to the next one."""

    count: Int[Tensor, ""]

    def __init__(self, order: Order, seed: int) -> None:
        super().__init__()
        check_order(order)
        self._random = order == "random"
        self._seed = seed
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, num_rows: int, device: torch.device) -> Int[Tensor, "M M-1"]:
        """Returns, for each of M rows, the other rows in the order of its visits."""
        places = torch.arange(num_rows, device=device).expand(num_rows, num_rows)
        # Two rows have one order.
        keys = self._keys(num_rows, device) if self._random and num_rows > 2 else places
        # The row itself comes last and is cut off.
        keys = torch.where(places == places.mT, _MASK + 1, keys)
        return keys.argsort(dim=-1, stable=True)[:, : num_rows - 1]

    def advance(self) -> None:
        """Goes on to the next order."""
        self.count.add_(1)

    def _keys(self, num_rows: int, device: torch.device) -> Int[Tensor, "M M"]:
        """Numbers in [0, 2^32) that only the seed, the count and their place decide."""
        start = _mix((self.count + self._seed * _STRIDE % _MASK) & _MASK)
        place = torch.arange(num_rows**2, device=device).view(num_rows, num_rows)
        return _mix((start + place * _STRIDE) & _MASK)


def _mix(number: Tensor) -> Tensor:
    """Hashes 32-bit integers.

    From the `prospector` family of hashes; both factors are below 2^31, so that the products
    stay within int64.
    """
    number = (number ^ (number >> 16)) * 0x21F0AAAD & _MASK
    number = (number ^ (number >> 15)) * 0x735A2D97 & _MASK
    return number ^ (number >> 15)
